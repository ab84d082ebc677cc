#!/bin/sh
# All that needs an NVIDIA GPU, in under eight minutes: gpu.sh DIR writes DIR/gpu.json. RESULTS.md says what is in it.
# Runs from the checkout, with the Python that is there (python3, or $PYTHON), and installs nothing.
here=$(CDPATH='' cd -- "$(dirname -- "$0")" && pwd) || exit 2
root=$(dirname -- "$(dirname -- "$here")")
PYTHONPATH="$root:$root/tests/support${PYTHONPATH:+:$PYTHONPATH}"
export PYTHONPATH
exec "${PYTHON:-python3}" "$here/gpu.py" "$@"
