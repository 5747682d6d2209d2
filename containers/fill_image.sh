#!/usr/bin/env bash
# fill_image.sh packages LOCK | code LOCK BASE REVISION: what Dockerfile and apptainer.def do alike, inside the image.
#
# packages  /opt/venv from LOCK. Taken from /mnt, which is mounted for this step alone: ca.crt (a CA bundle), pip.conf,
#           wheels/ (a folder of wheels; with a file named `complete` in it, the registry is not asked).
#           With CUDA, the C compiler and the headers with which Triton links the kernels that torch.compile writes.
# code      compiles the project's code, writes what the image is to /opt/euler/image.json, makes the places to mount
set -Eeuo pipefail
here=/opt/euler/containers

packages() {
  if [ -s /mnt/ca.crt ]; then export PIP_CERT=/mnt/ca.crt; fi
  if [ -s /mnt/pip.conf ]; then export PIP_CONFIG_FILE=/mnt/pip.conf; fi
  if [ -d /mnt/wheels ]; then export PIP_FIND_LINKS=/mnt/wheels; fi
  if [ -e /mnt/wheels/complete ]; then export PIP_NO_INDEX=1; fi
  PIP_NO_CACHE_DIR=1 PYTHON=python3 "$here/install.sh" /opt/venv "$here/$1"
  if [[ $1 == *cuda* ]]; then compiler; fi
}

compiler() {
  apt-get update
  DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends gcc libc6-dev python3-dev
  rm -rf /var/lib/apt/lists/* /var/cache/apt/* /var/cache/ldconfig/aux-cache /var/log/*
}

code() {
  chmod -R a+rX,go-w /opt/euler
  /opt/venv/bin/python -m compileall -q --invalidation-mode unchecked-hash /opt/euler
  mkdir -p /cache /data /runs
  chmod 1777 /cache /runs
  /opt/venv/bin/python - "$here/$1" "$2" "$3" >/opt/euler/image.json <<'END'
import hashlib, importlib.metadata, json, pathlib, platform, sys

lock, base, revision = pathlib.Path(sys.argv[1]), *sys.argv[2:]
facts = {
    "revision": revision,
    "lock": lock.name,
    "lock_sha256": hashlib.sha256(lock.read_bytes()).hexdigest(),
    "torch": importlib.metadata.version("torch"),
    "python": platform.python_version(),
    "base": base,
}
sys.stdout.write(json.dumps(facts, indent=2) + "\n")
END
}

step=$1
shift
"$step" "$@"
