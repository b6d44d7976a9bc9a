#!/usr/bin/env bash
# Training writes into folders. Prints what it is given; of gs://bucket/folder the path where it mounted the bucket.
#   bash tpu_scripts/worker/mount.sh gs://my-bucket/runs/x
set -euo pipefail
if [[ $1 != gs://?* ]]; then
  printf '%s\n' "$1"
  exit
fi
path=${1#gs://}
bucket=${path%%/*}
place=${BUCKETS:-$HOME/buckets}/$bucket
if ! command -v gcsfuse >/dev/null; then
  echo "gcsfuse is missing, which mounts $1: install it in PREPARE, or set OUT to the path of a shared disk" >&2
  exit 1
fi
mkdir -p "$place"
mountpoint -q "$place" || gcsfuse --implicit-dirs "$bucket" "$place" >&2
printf '%s\n' "$place${path#"$bucket"}"
