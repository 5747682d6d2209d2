#!/usr/bin/env bash
# install.sh VENV LOCK [LOCK ...]: makes the folder VENV a virtual environment with exactly what the locks name.
#
# The one place where locks are installed: by make_env.sh, by Dockerfile and by apptainer.def. Every file that is taken
# is checked against its hash. PYTHON is the Python 3.11 to use (default python3). Mirrors, wheel folders and a CA
# bundle come from the settings of pip. VENV/euler-lock.json tells the first lock and its sha256.
set -Eeuo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
venv=$1
shift
pip=(env DS_BUILD_OPS=0 "$venv/bin/python" -m pip --disable-pip-version-check --no-input)
install=("${pip[@]}" install -qq --no-warn-script-location --require-hashes --no-deps --only-binary :all:)

rm -rf "$venv"
"${PYTHON:-python3}" -m venv "$venv"
"${install[@]}" -r "$here/requirements-build.lock"
# These two are published as source alone. They are built with the locked setuptools instead of the newest one, and
# DeepSpeed without its compiled operators (DS_BUILD_OPS=0), which needs neither a compiler nor torch.
install+=(--no-build-isolation --no-binary "antlr4-python3-runtime,deepspeed")
for lock in "$@"; do
  "${install[@]}" -r "$lock"
done
"${pip[@]}" check --quiet

# torchaudio's wheel carries an extension for CUDA that cannot load beside a CPU torch; without the file torchaudio
# works in Python alone, which is all that is used (filter banks, resampling).
if [ -d "$venv"/lib/python3.11/site-packages/torchaudio ] && ! "$venv/bin/python" -c 'import torchaudio' 2>/dev/null; then
  rm -f "$venv"/lib/python3.11/site-packages/torchaudio/lib/_torchaudio.abi3.so
  "$venv/bin/python" -c 'import torchaudio'
fi
printf '{"lock": "%s", "sha256": "%s"}\n' "$(basename "$1")" "$(sha256sum "$1" | cut -d' ' -f1)" >"$venv/euler-lock.json"
