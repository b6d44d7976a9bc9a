# shellcheck shell=bash
# What the scripts share; each of them sources it: settings, how a command is run or shown, the functions of the target.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

die() {
  echo "${0##*/}: $*" >&2
  exit 2
}

# The arguments as one line that can be pasted into a shell.
quoted() {
  local word line=()
  for word; do
    [[ $word =~ ^[A-Za-z0-9_./:=@%+,-]+$ ]] || word=${word@Q}
    line+=("$word")
  done
  echo "${line[*]}"
}

# Every command that asks or changes anything goes through here. With DRY_RUN=1 it is shown, also where its output
# would be captured (hence the copy of stdout), succeeds, and says nothing.
exec 3>&1
run() {
  if [[ $DRY_RUN == 1 ]]; then quoted "$@" >&3; else "$@"; fi
}

need() {
  local setting
  for setting; do
    [[ ${!setting:-} ]] || die "$setting is not set: see the settings in tpu_scripts/README.md"
  done
}

need_tool() { [[ $DRY_RUN == 1 ]] || command -v "$1" >/dev/null || die "$1 is not installed: $2"; }

DRY_RUN=${DRY_RUN:-0}
SLICES=${SLICES:-1}
CAPACITY=${CAPACITY:-on-demand}
OUT=${OUT:-}
PREPARE=${PREPARE:-}
read -ra CREATE_FLAGS <<<"${CREATE_FLAGS:-}"
need TARGET PROJECT ZONE NAME
[[ $DRY_RUN =~ ^[01]$ ]] || die "DRY_RUN=$DRY_RUN: set it to 1 to see the commands, or not at all"
[[ $SLICES =~ ^[1-9][0-9]*$ ]] || die "SLICES=$SLICES: write a number from 1 on"
[[ $TARGET =~ ^(gke|queued|vm)$ ]] || die "TARGET=$TARGET: write gke (xpk), queued (queued resources) or vm (one TPU VM)"
# xpk and gcloud both take these names.
[[ $NAME =~ ^[a-z]([a-z0-9-]{0,38}[a-z0-9])?$ ]] ||
  die "NAME=$NAME: write at most 40 small letters, digits and hyphens, a letter first, no hyphen last"

# shellcheck source=/dev/null
source "tpu_scripts/targets/$TARGET.sh"
