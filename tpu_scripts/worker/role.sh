#!/usr/bin/env bash
# Plays a role in reinforcement learning without Ray, in a pod of the JobSet of tpu_scripts/rl/gke.sh, until the run is at
# its end or the pod goes away; the same call goes on. The arguments are those of `python -m cwm_jax rl`.
#   bash tpu_scripts/worker/role.sh board|environments|samplers|learner --gin_file=F [--gin.Class.field=VALUE …] --out OUT
set -euo pipefail
cd "$(dirname "$0")/../.."
job=$1
shift
bash tpu_scripts/worker/setup.sh
# JobSet calls a pod NAME-JOB-3-0 that is the first of the job's fourth copy.
copies=${HOSTNAME%-*}
case $job in
  environments) role=env-${HOSTNAME##*-} ;;
  samplers) role=sampler-${copies##*-} ;;
  *) role=$job ;;
esac
exec .venv/bin/python -m cwm_jax rl "$@" --role "$role"
