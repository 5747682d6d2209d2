# shellcheck shell=bash
# What jobs that run in an image need on the host; sourced by job.sh on the first node and by in_image.sh for each task.
#
#   EULER_IMAGE      the image, an Apptainer file
#
# In RUN/.job: `image` (digest, size and time of the image that was submitted), `failure` (as the training writes it).

check_image() { # RUN: the image is the environment, so a run goes on in the one that it was submitted with
  local digest size mtime
  read -r digest size mtime 2> /dev/null < "$1/.job/image" || return 0
  if ! [ -r "$EULER_IMAGE" ] || ! [ -f "$EULER_IMAGE" ]; then
    refuse "$1" "EULER_IMAGE=$EULER_IMAGE: no file that can be read here; put it where all nodes see it"
    return 1
  fi
  export EULER_IMAGE_DIGEST=$digest
  if [ "$(stat -L -c '%s %Y' "$EULER_IMAGE")" = "$size $mtime" ]; then return; fi
  if [ "sha256:$(sha256sum < "$EULER_IMAGE" | cut -d ' ' -f 1)" != "$digest" ]; then
    refuse "$1" "EULER_IMAGE=$EULER_IMAGE: another image than the run was submitted with; put that one back, or launch the run again"
    return 1
  fi
}

refuse() { # RUN REASON: write down an error that no restart mends, as the training would; the first of all tasks counts
  local reason=${2//[[:cntrl:]]/ }
  reason=${reason//\\/\\\\}
  echo "on ${SLURMD_NODENAME:-$(hostname)}: $2" >&2
  mkdir -p "$1/.job"
  (
    set -C
    printf '{"job": "%s", "restart": %d, "rank": %d, "host": "%s", "code": 1, "reason": "LaunchError: %s"}\n' \
      "${EULER_JOB:-$SLURM_JOB_ID}" "${EULER_RESTART:-0}" "${SLURM_PROCID:-0}" "${SLURMD_NODENAME:-$(hostname)}" \
      "${reason//\"/\\\"}" > "$1/.job/failure"
  ) 2> /dev/null || true
}
