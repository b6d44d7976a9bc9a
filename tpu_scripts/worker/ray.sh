#!/usr/bin/env bash
# Plays a role in reinforcement learning: joins the Ray cluster of HEAD, again and again until this machine goes away. The
# first host of the learner also runs it; the arguments are those of `python -m cwm_jax rl`, and the same call goes on.
#   bash tpu_scripts/worker/ray.sh head|environments HEAD
#   bash tpu_scripts/worker/ray.sh sampler HEAD HOSTS
#   bash tpu_scripts/worker/ray.sh learner HEAD HOSTS --gin_file=F [--gin.Class.field=VALUE …] --out OUT
set -euo pipefail
cd "$(dirname "$0")/../.."
role=$1 head=$2 hosts=${3:-1}
shift $(($# < 3 ? 2 : 3))
bash tpu_scripts/worker/setup.sh
PATH=$PWD/.venv/bin:$PATH
if [[ $role == head ]]; then exec ray start --head --port=6379 --num-cpus=1 --block; fi

metadata() { curl -fs -H Metadata-Flavor:Google "http://metadata.google.internal/computeMetadata/v1/instance/attributes/$1"; }
first() { [[ ${TPU_WORKER_ID:-$(metadata agent-worker-number)} == 0 ]]; }

# A host tells how many there are of its slice, and one of several of a sampler which it is of (cwm_jax/rl/ray_places.py).
resource=$role
if [[ $role == sampler ]] && ((hosts > 1)); then
  slice=${TPU_NAME:-$(metadata instance-id)} # NAME-sampler-0
  resource=sampler-${slice##*-}
fi
join=(ray start "--address=$head:6379" "--resources={\"$resource\": $hosts}")
if [[ $role != learner ]] || ! first; then
  trap 'exit 143' TERM
  while :; do
    "${join[@]}" --block &
    wait $! || sleep 10
  done
fi
until "${join[@]}"; do sleep 10; done
exec python -m cwm_jax rl "$@" --address auto
