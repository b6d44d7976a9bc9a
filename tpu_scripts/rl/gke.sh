# shellcheck shell=bash
# Reinforcement learning on GKE: one JobSet with a job for each slice, which Kubernetes places and restarts as a whole.
# Pods fetch the project themselves, play their role as plain processes (worker/role.sh) and find one another in OUT.
CODE=${CODE:-}
source tpu_scripts/rl/job.sh

rl_create() {
  local yaml=runs/submit/$NAME.yaml
  [[ $CODE == gs://?* ]] || die "CODE is not set: name a gs://bucket/file.tar.gz for the project"
  run mkdir -p runs/submit
  run git archive --format=tar.gz "--output=runs/submit/$NAME.tar.gz" HEAD
  run gcloud storage cp "runs/submit/$NAME.tar.gz" "$CODE"
  # In a dry run the file is shown as the command that makes it.
  run bash -c "printf '%s\n' \"\$1\" >\"\$2\"" write "$(rl_jobset "$@")" "$yaml"
  run "${KUBECTL[@]}" apply "--filename=$yaml"
}

rl_delete() { run "${KUBECTL[@]}" delete jobset "$NAME" --ignore-not-found; }

rl_jobset() {
  printf '%s\n' "apiVersion: jobset.x-k8s.io/v1alpha2" "kind: JobSet" "metadata: {name: $NAME}" "spec:" \
    "  failurePolicy: {maxRestarts: 100}" "  successPolicy: {operator: All, targetReplicatedJobs: [board]}" \
    "  replicatedJobs:"
  local arguments=(--gin_file="$1" "${@:2}" --out "$OUT")
  rl_job board 1 1 "{}" "{cpu: 4, memory: 16Gi}" "${arguments[@]}"
  rl_job environments 1 "$ENVIRONMENTS" "{}" "{cpu: 30, memory: 96Gi}" "${arguments[@]}"
  TOPOLOGY=$SAMPLER_TOPOLOGY source tpu_scripts/topology.sh
  rl_slices samplers "$SAMPLERS" "${arguments[@]}"
  source tpu_scripts/topology.sh
  rl_slices learner 1 "${arguments[@]}"
}

# rl_slices JOB SLICES ARGUMENT …: as many pods as hosts, each with all chips of its host.
rl_slices() {
  local kind
  case $TPU_GENERATION in
    v4) kind=tpu-v4-podslice ;;
    v5e) kind=tpu-v5-lite-podslice ;;
    tpu7x) kind=tpu7x ;;
    *) kind=tpu-$TPU_GENERATION-slice ;;
  esac
  rl_job "$1" "$2" "$TPU_HOSTS" \
    "{cloud.google.com/gke-tpu-accelerator: $kind, cloud.google.com/gke-tpu-topology: $TPU_SHAPE}" \
    "{google.com/tpu: $((TPU_CHIPS / TPU_HOSTS))}" "${@:3}"
}

# rl_job JOB COUNT PODS NODES RESOURCES ARGUMENT …
rl_job() {
  local fetch words
  fetch="gcloud storage cat $(quoted "$CODE") | tar -xz -C /opt/cwm_jax"
  words="${PREPARE:+$PREPARE && }cd /opt/cwm_jax && exec bash tpu_scripts/worker/role.sh $1 $(quoted "${@:6}")"
  NODES=$4 FETCH=${fetch//\'/\'\'} WORDS=${words//\'/\'\'} rl_yaml "$@"
}
