# shellcheck shell=bash
# shellcheck disable=SC2034  # the targets use what is set here
# Reads TOPOLOGY=generation:shape, the notation of `cwm_jax compile --topology`, against generations.tsv.
# Sets TPU_TYPE, TPU_SHAPE, TPU_CHIPS, TPU_HOSTS and TPU_CORES (of one slice), TPU_RUNTIME, TPU_QUOTA, TPU_SPOT_QUOTA.
need TOPOLOGY
TPU_GENERATION=${TOPOLOGY%%:*}
TPU_SHAPE=${TOPOLOGY#*:}

row=$(awk -F '\t' -v generation="$TPU_GENERATION" '$1 == generation' tpu_scripts/generations.tsv)
generations=$(sed 1d tpu_scripts/generations.tsv | cut -f 1)
[[ $row ]] || die "TOPOLOGY=$TOPOLOGY: write generation:shape in chips, such as v5p:4x4x8;" \
  "the generations are ${generations//$'\n'/, }"
IFS=$'\t' read -r _ TPU_TYPE cores largest TPU_RUNTIME TPU_QUOTA TPU_SPOT_QUOTA <<<"$row"

# Generations whose chips form a plane come in a few shapes; in the others, cubes of 4x4x4 chips are put together.
case $TPU_GENERATION in
  v5e | v6e) shapes="1x1 2x2 2x4 4x4 4x8 8x8 8x16 16x16" cubes="" ;;
  *) shapes="2x2x1 2x2x2 2x2x4 2x4x4" cubes=", or three multiples of 4 in rising order such as 4x4x8" ;;
esac
of_cubes() {
  local side before=4
  [[ $cubes && $TPU_SHAPE =~ ^[1-9][0-9]{0,2}(x[1-9][0-9]{0,2}){2}$ ]] || return 1
  for side in ${TPU_SHAPE//x/ }; do
    ((side % 4 == 0 && side >= before)) || return 1
    before=$side
  done
}
TPU_CHIPS=0
if [[ " $shapes " == *" $TPU_SHAPE "* ]] || of_cubes; then TPU_CHIPS=$((${TPU_SHAPE//x/*})); fi
((TPU_CHIPS > 0 && TPU_CHIPS <= largest)) ||
  die "TOPOLOGY=$TOPOLOGY: a slice of $TPU_GENERATION is ${shapes// /, }$cubes, with at most $largest chips"
TPU_CORES=$((TPU_CHIPS * cores))
# Hosts have four chips, or the eight of the largest slices that are one host.
TPU_HOSTS=$(((TPU_CHIPS + 3) / 4))
[[ $TPU_SHAPE != 2x4 ]] || TPU_HOSTS=1
