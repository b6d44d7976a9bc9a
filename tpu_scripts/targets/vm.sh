# shellcheck shell=bash
# A plain TPU VM: one slice, made at once or not at all.
source tpu_scripts/targets/nodes.sh

target_check() {
  ((SLICES == 1)) || die "SLICES=$SLICES: TARGET=vm is one slice; use TARGET=queued or gke for several"
  check_nodes
}

target_create() {
  create_flags "$@"
  send_code
  run "${TPUS[@]}" tpu-vm create "$NAME" "${PLACE[@]}" "--version=$TPU_RUNTIME" "${FLAGS[@]}"
}

# One of running, waiting, over, absent.
target_state() {
  local state
  state=$(run "${TPUS[@]}" tpu-vm describe "$NAME" "${PLACE[@]}" '--format=value(state)') || state=NONE
  case $state in
    READY) echo running ;;
    NONE) echo absent ;;
    PREEMPTED | STOPPED | TERMINATED | '') echo over ;;
    *) echo waiting ;;
  esac
}

target_status() { run "${TPUS[@]}" tpu-vm describe "$NAME" "${PLACE[@]}" '--format=yaml(name,state,health,acceleratorConfig)'; }

target_restart() { restart_node; }

target_delete() { run "${TPUS[@]}" tpu-vm delete "$NAME" "${PLACE[@]}" --quiet; }
