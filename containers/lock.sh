#!/usr/bin/env bash
# lock.sh [--upgrade]: writes the hash-pinned locks beside this file from the *.in files, for Python 3.11 on Linux x86_64.
#
#   requirements-cuda.lock    requirements.in with the torch that the registry has, and its CUDA libraries
#   requirements-cpu.lock     the same with torch==X+cpu, every other pin equal
#   requirements-submit.lock, requirements-dev.lock, requirements-build.lock: every pin equal to those of requirements-cuda.lock
#
# Pins that the *.in files allow are kept, with --upgrade the newest ones are taken. The +cpu build of torch comes from
# where pip is set to find it (PIP_FIND_LINKS, PIP_EXTRA_INDEX_URL or pip.conf). No host and no path gets into a lock.
set -Eeuo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"
uv_version=0.13.9
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

pins() { grep -oE '^[A-Za-z0-9._-]+==[^ ;]+' "$1"; }

compile() { # NAME [arguments of uv]: requirements-NAME.lock, begun from the pins that it has
  local name=$1
  shift
  env -u UV_FIND_LINKS "$work/uv/bin/uv" pip compile --quiet --no-config --generate-hashes --no-header --no-annotate \
    --python "$work/uv/bin/python" --python-version 3.11 --python-platform x86_64-manylinux_2_28 \
    "$@" --output-file "$work/requirements-$name.lock"
}

refuse_difference() { # FILE: its pins that requirements-cuda.lock has otherwise
  local other
  other=$(pins "$1" | sed 's/+cpu$//' | awk -F== 'NR == FNR { pin[$1] = $2; next } ($1 in pin) && pin[$1] != $2' "$work/cuda" -)
  [ -z "$other" ] && return
  echo "make lock: ${1##*/} differs from requirements-cuda.lock: $other" >&2
  exit 1
}

python3 -m venv "$work/uv"
"$work/uv/bin/python" -m pip install --quiet --disable-pip-version-check "uv==$uv_version"
for lock in requirements-*.lock; do
  [ -e "$lock" ] && cp "$lock" "$work/" # what stands there is kept where it fits
done

compile cuda "$@" requirements.in
pins "$work/requirements-cuda.lock" >"$work/cuda"
grep -v '^torch==' "$work/cuda" >"$work/constraints"
torch=$(sed -n 's/^torch==//p' "$work/cuda")+cpu
if ! "$work/uv/bin/python" -m pip download --quiet --disable-pip-version-check --no-deps --only-binary :all: --python-version 3.11 \
  --platform manylinux_2_28_x86_64 --dest "$work/wheels" "torch==$torch"; then
  echo "make lock: pip finds no torch==$torch; set PIP_FIND_LINKS (a folder of wheels) or PIP_EXTRA_INDEX_URL to a place that has it" >&2
  exit 1
fi
echo "torch==$torch" >"$work/override"
compile cpu --find-links "$work/wheels" --override "$work/override" --constraint "$work/constraints" requirements.in
for name in submit dev build; do
  compile "$name" --constraint "$work/constraints" "requirements-$name.in"
done

for name in cpu submit dev build; do
  refuse_difference "$work/requirements-$name.lock"
done
if grep -nE '://|^ *--(index|extra-index|find-links)|(^| )/|@ ' "$work"/requirements-*.lock; then
  echo "make lock: a host or a path got into a lock" >&2
  exit 1
fi
cp "$work"/requirements-*.lock .
wc -l requirements-*.lock
