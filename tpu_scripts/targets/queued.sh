# shellcheck shell=bash
# Queued resources: the request waits for its TPUs, one slice or several, and training starts when they are there.
source tpu_scripts/targets/nodes.sh

target_check() { check_nodes; }

target_create() {
  local nodes=("--node-id=$NODE")
  ((SLICES == 1)) || nodes=("--node-count=$SLICES" "--node-prefix=$NAME")
  create_flags "$@"
  send_code
  run "${TPUS[@]}" queued-resources create "$NAME" "${PLACE[@]}" "${nodes[@]}" "--runtime-version=$TPU_RUNTIME" "${FLAGS[@]}"
}

# One of running, waiting, over, absent.
target_state() {
  local state
  state=$(run "${TPUS[@]}" queued-resources describe "$NAME" "${PLACE[@]}" '--format=value(state.state)') || state=NONE
  case $state in
    ACTIVE) echo running ;;
    NONE) echo absent ;;
    SUSPENDED | FAILED | '') echo over ;;
    *) echo waiting ;;
  esac
}

target_status() {
  run "${TPUS[@]}" queued-resources describe "$NAME" "${PLACE[@]}" '--format=yaml(name,state,tpu.nodeSpec[].nodeId)'
}

target_restart() {
  local slice
  for ((slice = 0; slice < SLICES; slice++)); do
    ((SLICES == 1)) || NODE=$NAME-$slice
    restart_node
  done
}

target_delete() { run "${TPUS[@]}" queued-resources delete "$NAME" "${PLACE[@]}" --force --quiet; }
