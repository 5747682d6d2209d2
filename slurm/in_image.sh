#!/usr/bin/env bash
# in_image.sh RUN [--folder=DIR | --data=PATH | ARGUMENT]... -- COMMAND...: run a command in the image EULER_IMAGE.
#
#   RUN           where an error is written down; - for none
#   --folder=DIR  is there in the image under its own name; made where it is not there yet
#   --data=PATH   the same for what is only read; left out where it is not there
#   ARGUMENT      of `apptainer exec`
#
#   EULER_IMAGE      the image
#   EULER_APPTAINER  the program, by default apptainer
#   EULER_CODE       folder of the code, which comes before the one in the image
#
# The command finds the folders of the host as they are, the variables that `passes` names, and nothing else of the host.
set -Euo pipefail
# shellcheck source=slurm/image.sh
. "${BASH_SOURCE[0]%/*}/image.sh"

passes() { # NAME: whether a variable of the host is meant for the training
  case $1 in
    SLURM_* | SLURMD_NODENAME | EULER_* | MASTER_* | RANK | WORLD_SIZE | LOCAL_* | NODE_RANK) ;;
    CUDA_* | NVIDIA_* | NCCL_* | GLOO_* | OMP_* | MKL_* | KMP_* | UCX_* | FI_* | OMPI_* | PMI*) ;;
    TORCH_* | PYTORCH_* | TRITON_* | DS_* | WANDB_* | HYDRA_FULL_ERROR) ;;
    TMPDIR | USER | LOGNAME | TZ | LANG | LC_* | *_proxy | *_PROXY) ;;
    PYTHONSAFEPATH | PYTHONUNBUFFERED | PYTHONFAULTHANDLER | PYTHONHASHSEED) ;;
    *) return 1 ;;
  esac
}

mount_of() { # PATH: as a line of comma-separated values, in which no sign of a path means anything
  local path=${1//\"/\"\"}
  printf 'type=bind,"src=%s","dst=%s"%s' "$path" "$path" "${2:-}"
}

fail() {
  if [ "$run" = - ]; then echo "$1" >&2; else refuse "$run" "$1"; fi
  exit 1
}

has_command() { # WORD...: whether -- and a command are among the words
  while [ $# -gt 0 ] && [ "$1" != -- ]; do shift; done
  [ $# -gt 1 ]
}

if ! has_command "${@:2}"; then
  echo 'in_image.sh: -- and a command are missing: in_image.sh RUN [ARGUMENT]... -- COMMAND...' >&2
  exit 2
fi
run=$1
shift
words=() folders=("$EULER_CODE")
[ "$run" = - ] || folders+=("$run")
[ -z "${TMPDIR:-}" ] || ! [ -d "$TMPDIR" ] || folders+=("$TMPDIR")
while [ "$1" != -- ]; do
  case $1 in
    --folder=*)
      if mkdir -p "${1#*=}"; then folders+=("${1#*=}"); fi # else the training says what it cannot write to
      ;;
    --data=*) [ ! -e "${1#*=}" ] || words+=(--mount "$(mount_of "${1#*=}" ,ro)") ;;
    *) words+=("$1") ;;
  esac
  shift
done
shift
for folder in "${folders[@]}"; do words=(--mount "$(mount_of "$folder")" "${words[@]}"); done

program=${EULER_APPTAINER:-apptainer}
if ! command -v "$program" > /dev/null; then
  fail "container.executable=$program: no such program on $(hostname); load its module in site.setup, or give its absolute path"
fi
if ! [ -r "$EULER_IMAGE" ] || ! [ -f "$EULER_IMAGE" ]; then
  fail "container.image=$EULER_IMAGE: no file that can be read on $(hostname); put it where all nodes see it"
fi
case ${program##*/} in singularity*) prefix=SINGULARITYENV ;; *) prefix=APPTAINERENV ;; esac
for name in $(compgen -e); do
  if passes "$name"; then export "${prefix}_$name=${!name}"; fi
done
export "${prefix}_PYTHONPATH=$EULER_CODE" "${prefix}_PYTHONNOUSERSITE=1"
shielded=$(cd "${BASH_SOURCE[0]%/*}/shielded" && pwd)
case $(command -v squashfuse_ll) in
  /usr/* | /bin/* | /sbin/*) PATH=$shielded:$PATH ;;
esac
[ "$run" = - ] || cd "$run" || exit
exec "$program" --quiet exec --cleanenv "${words[@]}" "$EULER_IMAGE" "$@"
