#!/usr/bin/env bash
# make_env.sh [submit]: builds .venv beside the Makefile from the locks; with submit, .venv-submit, which can only submit.
#
# Nothing to do when it is up to date. .venv gets requirements-cpu.lock where pip finds torch==X+cpu in its own settings
# (PIP_FIND_LINKS, PIP_EXTRA_INDEX_URL, pip.conf), else requirements-cuda.lock, which runs on a CPU too; LOCK=cpu or
# LOCK=cuda decides instead. requirements-dev.lock comes on top. The locks are for Python 3.11 on Linux x86_64: PYTHON
# is used if it is that, else python3.11. Nothing is written outside the environment.
set -Eeuo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
locks=containers/requirements
case ${1:-} in
  '') venv=.venv target='make env' dependencies=("$locks-cpu.lock" "$locks-cuda.lock" "$locks-dev.lock") ;;
  submit) venv=.venv-submit target='make env-submit' dependencies=("$locks-submit.lock") LOCK=submit ;;
  *)
    echo "make_env.sh: $1: neither nothing nor submit" >&2
    exit 2
    ;;
esac
stamp=$venv/.requirements.sha256
wanted=$(cat "${dependencies[@]}" "$locks-build.lock" containers/install.sh containers/make_env.sh | sha256sum | cut -d' ' -f1)

refuse() {
  echo "$target: $1" >&2
  exit 1
}

is_current() {
  [ -x $venv/bin/python ] && [ "$(cat $stamp 2>/dev/null)" = "$wanted" ] &&
    grep -q "requirements-${LOCK:-.*}.lock" $venv/euler-lock.json
}

is_3_11() { "$1" -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11))' 2>/dev/null; }

find_python() { # Python 3.11, whose packages the locks name
  local candidate
  for candidate in "${PYTHON:-python3}" python3.11; do
    if command -v "$candidate" >/dev/null && is_3_11 "$candidate"; then
      echo "$candidate"
      return
    fi
  done
  refuse "${PYTHON:-python3} is $("${PYTHON:-python3}" --version 2>&1 | tail -n 1), and the locks are for Python 3.11: set PYTHON=/path/to/python3.11 \
(a module of the cluster, 'uv python install 3.11', conda), or train in the image, which brings its own"
}

choose_lock() {
  local torch asked
  [ -n "${LOCK:-}" ] && { echo "$locks-$LOCK.lock"; return; }
  torch=$(sed -n 's/^torch==\([^ ]*\).*/\1/p' $locks-cpu.lock)
  asked=$(mktemp -d) # its pip is asked: Python may have none outside of environments
  if "$python" -m venv "$asked" && "$asked/bin/python" -m pip install -qq --disable-pip-version-check --no-input \
    --dry-run --no-deps --only-binary :all: "torch==$torch" 2>/dev/null; then
    echo $locks-cpu.lock
  else
    echo $locks-cuda.lock
  fi
  rm -rf "$asked"
}

is_current && exit 0
exec 9>$venv.lock
flock 9 # two makes at once build it once
is_current && exit 0

[ "$(uname -sm)" = "Linux x86_64" ] || refuse "the locks are for Linux on x86_64, this is $(uname -sm)"
python=$(find_python)
"$python" -c 'import ensurepip' 2>/dev/null || refuse "the venv module of $python is missing (Debian: apt-get install python3-venv)"
lock=$(choose_lock)
[ -e "$lock" ] || refuse "LOCK=$LOCK: valid: cpu, cuda"
chosen=("$lock")
[ $venv = .venv ] && chosen+=("$locks-dev.lock")
echo "$target: building $venv from ${chosen[*]} (minutes)"
PYTHON=$python containers/install.sh $venv "${chosen[@]}"
echo "$wanted" >$stamp
echo "$target: done"
