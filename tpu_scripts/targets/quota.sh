# shellcheck shell=bash
# What can be known before TPU VMs are asked for: that the zone has such slices, and that the quota is large enough.
check_nodes() {
  [[ $TPU_RUNTIME != - ]] || die "TOPOLOGY=$TOPOLOGY: $TPU_GENERATION is on GKE only, use TARGET=gke"
  [[ $CAPACITY =~ ^(on-demand|spot|reserved)$ ]] || die "CAPACITY=$CAPACITY: write on-demand, spot or reserved"
  [[ $CODE == gs://?* ]] || die "CODE is not set: where OUT is a path, name a gs://bucket/file.tar.gz for the project"
  run gcloud compute tpus tpu-vm accelerator-types describe "$TPU_TYPE-$TPU_CORES" "${PLACE[@]}" >/dev/null ||
    die "ZONE=$ZONE offers no $TPU_TYPE-$TPU_CORES (that is $TOPOLOGY) to $PROJECT: choose another zone or topology"
  [[ $CAPACITY == reserved ]] || check_quota # a reservation is not part of the quota
}

check_quota() {
  local quota=$TPU_QUOTA limit needed=$((TPU_CORES * SLICES))
  [[ $CAPACITY == on-demand ]] || quota=$TPU_SPOT_QUOTA
  # Small slices of v5e count as serving.
  ((TPU_CHIPS > 8)) || [[ $TPU_GENERATION != v5e ]] || quota+=Serving
  quota+=PerProjectPerZoneForTPUAPI
  limit=$(run gcloud beta quotas info list --service=tpu.googleapis.com "--project=$PROJECT" \
    '--flatten=dimensionsInfos[]' "--filter=quotaId=$quota AND dimensionsInfos.applicableLocations:$ZONE" \
    '--format=value(dimensionsInfos.details.value)') ||
    die "the quotas of $PROJECT cannot be read: gcloud services enable cloudquotas.googleapis.com --project=$PROJECT"
  [[ $DRY_RUN == 0 ]] || return 0
  [[ $limit =~ ^-?[0-9]+$ ]] || { echo "gcloud cannot tell the quota $quota in $ZONE; going on" >&2 && return; }
  ((limit == -1 || limit >= needed)) ||
    die "quota $quota in $ZONE is $limit cores, $SLICES of $TOPOLOGY need $needed: ask for more, or change CAPACITY or ZONE"
}
