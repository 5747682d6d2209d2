#!/usr/bin/env bash
# build.sh image|sif cuda|cpu [OUT]: builds the Docker image, or the SIF file OUT, from the checkout that this lies in.
#
#   image  euler-audio-backbone:cuda or :cpu (TAG=... names it otherwise) in the engine that DOCKER (default docker) reaches
#   sif    OUT, default containers/euler-cuda.sif; from the Docker image of the same checkout where the engine has one,
#          else straight from apptainer.def, as an ordinary user; APPTAINER (default apptainer), FROM=definition insists
#
# BASE_IMAGE is the Debian 12 to build on: NAME@sha256:DIGEST, or a docker-archive file (*.tar). A name without a digest
# is refused: it is another image tomorrow. Settings that the build takes over, none of which gets into the image:
# SSL_CERT_FILE (a CA bundle), PIP_CONFIG_FILE, the +cpu wheel of torch in the folder PIP_FIND_LINKS, and all of the folder WHEELS
# (with a file named `complete` in it, no registry is asked). DOCKER_ARGS and APPTAINER_ARGS go to their build commands. What git tracks is built, as it is; where that is not what is committed, the
# image says so (-dirty).
set -Eeuo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
kind=$1 flavour=$2 out=${3:-$root/containers/euler-$2.sif}
docker=${DOCKER:-docker} apptainer=${APPTAINER:-apptainer}
lock=requirements-$flavour.lock tag=${TAG:-euler-audio-backbone:$flavour}

refuse() {
  echo "containers/build.sh: $1" >&2
  exit 1
}

checkout() { git -c safe.directory="$root" -C "$root" "$@"; }

stage() { # the files that git tracks, what they differ in from the commit, and the wheels: all that a build sees
  mkdir -p "$work/context/containers/wheels"
  checkout ls-files -z | while IFS= read -r -d '' name; do
    if [ -e "$root/$name" ]; then printf '%s\0' "$name"; fi # one that was deleted is part of the difference
  done | tar -C "$root" --create --null --files-from=- | tar -C "$work/context" --extract
  # as pipeline/launch/checkout.py asks, whatever git is set to here
  checkout -c core.quotePath=true diff --no-ext-diff --no-textconv --no-color --no-renames --no-relative --binary --unified=3 \
    --inter-hunk-context=0 --diff-algorithm=myers --src-prefix=a/ --dst-prefix=b/ HEAD >"$work/diff"
  python3 - "$commit" "$work/diff" >"$work/context/revision.json" <<'END'
import json, pathlib, sys

diff = pathlib.Path(sys.argv[2]).read_bytes().decode("utf-8", errors="surrogateescape")
sys.stdout.write(json.dumps({"commit": sys.argv[1], "diff": diff}, indent=2) + "\n")
END
  if [ -s "$work/diff" ]; then
    revision=$commit-dirty
    echo "containers/build.sh: the checkout differs from commit $commit; the image will say $revision"
  fi
  local pattern='*'
  [ -n "${WHEELS:-}" ] || pattern='torch-*+cpu-*.whl' # where pip finds wheels may be much else
  find -L "${WHEELS:-${PIP_FIND_LINKS:-/nonexistent}}" -maxdepth 1 -type f -name "$pattern" \
    -exec cp -L -t "$work/context/containers/wheels" {} + 2>/dev/null || [ -z "${WHEELS:-}" ] || refuse "WHEELS=$WHEELS cannot be read"
  chmod -R a+rX "$work/context"
}

build_image() {
  local secrets=() base=$BASE_IMAGE argument
  if [ -n "${PIP_CONFIG_FILE:-}" ]; then secrets+=(--secret "id=pipconf,src=$PIP_CONFIG_FILE"); fi
  if [ -n "${SSL_CERT_FILE:-}" ]; then secrets+=(--secret "id=cabundle,src=$SSL_CERT_FILE"); fi
  if [[ $base == *.tar ]]; then
    base=euler-base:${base_name##*:}
    "$docker" tag "$("$docker" load --quiet --input "$BASE_IMAGE" | sed 's/^Loaded image\( ID\)\{0,1\}: //' | tail -n 1)" "$base"
  fi
  local values=()
  for argument in "${arguments[@]}"; do
    values+=(--build-arg "$argument")
  done
  # shellcheck disable=SC2086 # DOCKER_ARGS are several
  DOCKER_BUILDKIT=1 "$docker" build --progress=plain ${DOCKER_ARGS:-} "${secrets[@]}" --build-arg "BASE_IMAGE=$base" "${values[@]}" \
    --file "$work/context/containers/Dockerfile" --tag "$tag" "$work/context"
  "$docker" image inspect --format "built $tag, {{.Id}}, {{.Size}} bytes" "$tag"
}

has_image() { # of the same commit, from the same lock
  [ "${FROM:-}" != definition ] && command -v "$docker" >/dev/null &&
    [ "$("$docker" image inspect --format \
      '{{index .Config.Labels "org.opencontainers.image.revision"}} {{index .Config.Labels "euler.lock"}}' \
      "$tag" 2>/dev/null)" = "$revision $lock_sha256" ] && [[ $revision != *-dirty ]]
}

build_sif() {
  local definition=$work/context/containers/apptainer.def bootstrap=docker base=${BASE_IMAGE:-} binds=() argument
  if has_image; then
    echo "containers/build.sh: from the Docker image $tag"
    "$docker" save --output "$work/image.tar" "$tag"
    bootstrap=docker-archive base=../image.tar
    base_name=$("$docker" image inspect --format '{{index .Config.Labels "org.opencontainers.image.base.name"}}' "$tag")
    # all is in it but what Apptainer wants otherwise; the folders and the home that suit Docker alone are left out
    awk '/^%/ { skip = /^%(files|post)/ } !skip' "$definition" >"$work/apptainer.def"
    printf '\n%%post\n    : >/.singularity.d/env/10-docker2singularity.sh\n' >>"$work/apptainer.def"
    definition=$work/apptainer.def
  else
    require_base
    echo "containers/build.sh: from the definition"
    if [[ $base == *.tar ]]; then
      ln -s "$(realpath "$base")" "$work/base.tar" # the path is written into the image
      bootstrap=docker-archive base=../base.tar
    fi
    mkdir "$work/mnt"
    if [ -n "${PIP_CONFIG_FILE:-}" ]; then cp -L "$PIP_CONFIG_FILE" "$work/mnt/pip.conf"; fi
    if [ -n "${SSL_CERT_FILE:-}" ]; then cp -L "$SSL_CERT_FILE" "$work/mnt/ca.crt"; fi
    mv "$work/context/containers/wheels" "$work/mnt/wheels"
    binds=(--bind "$work/mnt:/mnt:ro")
  fi
  arguments+=("BOOTSTRAP=$bootstrap" "BASE_IMAGE=$base" "BASE_NAME=$base_name")
  local values=()
  for argument in "${arguments[@]}"; do
    values+=(--build-arg "$argument")
  done
  # shellcheck disable=SC2086 # APPTAINER_ARGS are several
  (cd "$work/context" && "$apptainer" build --force --mksquashfs-args '-comp zstd -Xcompression-level 3' ${APPTAINER_ARGS:-} \
    "${binds[@]}" "${values[@]}" "$work/out.sif" "$definition")
  mv "$work/out.sif" "$out"
  echo "built $out, $(stat --format %s "$out") bytes"
}

require_base() {
  case ${BASE_IMAGE:-} in
    *@sha256:*) base_name=$BASE_IMAGE ;;
    *.tar)
      [ -r "$BASE_IMAGE" ] || refuse "BASE_IMAGE=$BASE_IMAGE cannot be read"
      base_name=docker-archive@sha256:$(sha256sum "$BASE_IMAGE" | cut -d' ' -f1)
      ;;
    '') refuse "BASE_IMAGE=NAME@sha256:DIGEST is needed: a Debian 12, say debian:bookworm-slim; containers/README.md tells how to find its digest" ;;
    *) refuse "BASE_IMAGE=$BASE_IMAGE has no digest and is another image tomorrow; NAME@sha256:DIGEST, see containers/README.md" ;;
  esac
}

case $kind-$flavour in
  image-cuda | image-cpu | sif-cuda | sif-cpu) ;;
  *) refuse "$kind $flavour: valid: image cuda, image cpu, sif cuda, sif cpu" ;;
esac
commit=$(checkout rev-parse HEAD) || refuse "no git checkout: an image tells the commit that it was made of"
revision=$commit
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
chmod 755 "$work"
[ "$kind" = sif ] || require_base
stage
lock_sha256=$(sha256sum "$work/context/containers/$lock" | cut -d' ' -f1)
arguments=("LOCK=$lock" "LOCK_SHA256=$lock_sha256" "REVISION=$revision"
  "TORCH=$(sed -n 's/^torch==\([^ ]*\).*/\1/p' "$work/context/containers/$lock")"
  "VERSION=$(sed -n 's/^version = "\(.*\)"/\1/p' "$root/pyproject.toml")"
  "CREATED=$(TZ=UTC checkout log -1 --format=%cd --date=format-local:%Y-%m-%dT%H:%M:%SZ)")
SOURCE_DATE_EPOCH=$(checkout log -1 --format=%ct)
export SOURCE_DATE_EPOCH
if [ "$kind" = image ]; then
  arguments+=("BASE_NAME=$base_name")
  build_image
else
  build_sif
fi
