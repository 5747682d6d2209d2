#!/usr/bin/env bash
# make_env.sh: builds .venv beside the Makefile from the pinned requirements; a no-op when it is up to date.
#
# Which torch is installed follows from the machine's own pip settings: a wheel folder (PIP_FIND_LINKS) or an extra
# index (PIP_EXTRA_INDEX_URL) with a +cpu build is preferred by pip; otherwise the CUDA build is taken, which runs on
# a CPU too. Nothing is written outside .venv.
set -euo pipefail
cd "$(dirname "$0")/.."

python=${PYTHON:-python3}
venv=.venv
stamp=$venv/.requirements.sha256
wanted=$(cat containers/requirements.in containers/constraints.txt containers/make_env.sh | sha256sum | cut -d' ' -f1)
torchaudio_lib() { ls -d "$venv"/lib/python3*/site-packages/torchaudio/lib; }
is_current() { [ -x $venv/bin/python ] && [ "$(cat $stamp 2>/dev/null)" = "$wanted" ]; }

is_current && exit 0
exec 9>.venv.lock
flock 9 # two makes at once build it once
is_current && exit 0

if ! "$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))'; then
  echo "make env: $python is $("$python" --version 2>&1); Python 3.11 or newer is needed (set PYTHON=...)" >&2
  exit 1
fi
echo "make env: building .venv (a few minutes)"
rm -rf $venv
"$python" -m venv $venv || { echo "make env: the venv module is missing (Debian: apt-get install python3-venv)" >&2; exit 1; }
DS_BUILD_OPS=0 $venv/bin/python -m pip install -qq --disable-pip-version-check --no-input \
  --requirement containers/requirements.in --constraint containers/constraints.txt

# torchaudio's wheel carries an extension for CUDA that cannot load beside a CPU torch; without the file torchaudio
# works in Python alone, which is all that is used (filter banks, resampling).
if ! $venv/bin/python -c 'import torchaudio' 2>/dev/null; then
  rm -f "$(torchaudio_lib)/_torchaudio.abi3.so"
  $venv/bin/python -c 'import torchaudio'
fi
echo "$wanted" >$stamp
echo "make env: done"
