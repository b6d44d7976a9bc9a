#!/usr/bin/env bash
# Sends SIGTERM to the training of this worker, as a pre-emption does, and waits until a new process trains.
#   bash tpu_scripts/worker/drill.sh [SECONDS, 900 unless given]
set -euo pipefail
cd "$(dirname "$0")/../.."
old=$(cat train.pid 2>/dev/null || echo none)
if ! kill -0 "$old" 2>/dev/null; then
  echo "nothing trains on this worker" >&2
  exit 1
fi
before=$(wc -c <train.log)
new_lines() { tail -c "+$((before + 1))" train.log; }

echo "SIGTERM to $old"
kill -TERM "$old"
for ((second = 0; second < ${1:-900}; second++)); do
  # The new process has got as far as training.
  if [[ $(cat train.pid) != "$old" ]] && new_lines | sed '1,/going on$/d' | grep -c '^training:' >/dev/null; then
    new_lines
    echo "$(cat train.pid) goes on where $old stopped"
    exit 0
  fi
  sleep 1
done
new_lines
echo "training did not go on within ${1:-900} s" >&2
exit 1
