#!/usr/bin/env bash
# Finds what would go wrong before anything starts; `submit.sh` and `resume.sh` run it first.
#   tpu_scripts/check.sh experiments/tiny/strawberry.gin [--gin.Class.field=VALUE …]
source "$(dirname "$0")/common.sh"
source tpu_scripts/topology.sh

[[ ${1:-} && $1 != -* ]] || die "which experiment? for example: $0 experiments/tiny/strawberry.gin"
[[ -f $1 ]] || die "there is no experiment $1; experiments/README.md lists them"
for word in "${@:2}"; do
  [[ $word == --gin.*=* || $word == --gin_file=* ]] || die "$word: after the experiment come --gin.Class.field=VALUE only"
done
[[ $OUT == gs://?* || $OUT == /?* ]] ||
  die "OUT=$OUT: write gs://bucket/folder, or the absolute path of a disk that all workers share and that outlives them"

need_tool gcloud "see https://cloud.google.com/sdk/docs/install"
account=$(run gcloud auth list --filter=status:ACTIVE '--format=value(account)')
[[ $account || $DRY_RUN == 1 ]] || die "gcloud has no account: run gcloud auth login"
run gcloud projects describe "$PROJECT" '--format=value(projectId)' >/dev/null ||
  die "PROJECT=$PROJECT cannot be read as $account: is that its id (not its name), and may you see it?"
target_check

# What is sent is what is committed.
run git cat-file -e "HEAD:$1" || die "$1 is not committed, and only commits are sent: git add $1 && git commit"
[[ $DRY_RUN == 1 || -z $(git status --porcelain --untracked-files=no) ]] ||
  echo "${0##*/}: uncommitted changes stay here; the workers get $(git rev-parse --short HEAD)" >&2
