#!/usr/bin/env bash
# Sets up this machine, a TPU VM or a container: Python 3.11 in .venv with what requirements-tpu.txt pins.
# Run again, it does nothing unless the pins changed.
#   bash tpu_scripts/worker/setup.sh
set -euo pipefail
cd "$(dirname "$0")/../.."
stamp=.venv/.requirements-tpu
pins=$(cat requirements.txt requirements-tpu.txt)
[[ ! -f $stamp || $pins != "$(cat $stamp)" ]] || exit 0

# The images of TPU VMs carry an older Python; uv brings its own. Newer images want to be told that pip may install it.
PIP_BREAK_SYSTEM_PACKAGES=1 PIP_ROOT_USER_ACTION=ignore python3 -m pip install --quiet --user uv==0.13.9
python3 -m uv venv --quiet --clear --python 3.11 .venv
python3 -m uv pip install --quiet --python .venv/bin/python -r requirements-tpu.txt
echo "$pins" >$stamp
