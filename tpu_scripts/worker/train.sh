#!/usr/bin/env bash
# Trains on this worker until training is done; the arguments are those of `python -m cwm_jax train`.
# Training that gets SIGTERM saves, says "stopped by SIGTERM" and exits 0, on all workers at once: it is started again and
# goes on from its checkpoint. SIGTERM to this script means that the machine goes away: training gets it too, and the exit
# status is 143, which tells the scheduler that there is work left.
#   bash tpu_scripts/worker/train.sh --gin_file=F [--gin.Class.field=VALUE …] --out OUT
set -uo pipefail
cd "$(dirname "$0")/../.." || exit
leaving=""
pid=""
trap 'leaving=1; [[ -z $pid ]] || kill -TERM "$pid" 2>/dev/null' TERM
bash tpu_scripts/worker/setup.sh || exit
arguments=()
for argument in "$@"; do arguments+=("$(bash tpu_scripts/worker/mount.sh "$argument")") || exit; done

touch train.log
tail -n 0 -F train.log 2>/dev/null & # what a container or the journal shows
mirror=$!
trap 'sleep 1; kill "$mirror"' EXIT
while [[ -z $leaving ]]; do
  before=$(wc -c <train.log)
  PYTHONUNBUFFERED=1 .venv/bin/python -m cwm_jax train "${arguments[@]}" >>train.log 2>&1 &
  pid=$!
  echo "$pid" >train.pid
  [[ -z $leaving ]] || kill -TERM "$pid"
  wait "$pid"
  status=$?
  if [[ $leaving ]]; then # the signal ended the wait, not training
    wait "$pid"
    status=$?
  fi
  ((status == 0)) || exit "$status"
  tail -c "+$((before + 1))" train.log | grep -c "stopped by SIGTERM" >/dev/null || exit 0
  [[ $leaving ]] || echo "saved; going on" >>train.log
done
exit 143
