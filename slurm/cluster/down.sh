#!/usr/bin/env bash
# down.sh [DIR]: ends the cluster that up.sh started in DIR, its jobs first; by process id, and only what is its own.
set -uo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
# shellcheck source=slurm/cluster/daemons.sh
. "$here/daemons.sh"
dir=$(cd "${1:-${TMPDIR:-/tmp}/euler-slurm-$UID}" 2>/dev/null && pwd) || {
  echo "slurm/cluster: no cluster in ${1:-${TMPDIR:-/tmp}/euler-slurm-$UID}"
  exit 0
}
export SLURM_CONF=$dir/slurm.conf PATH=$PATH:/usr/sbin:/sbin

has_ended() { ! is_alive "$1"; }

no_jobs() { [ -z "$(timeout 10 squeue -h)" ]; }

# descendants PID...: these processes and all below them
descendants() {
  local wave=("$@") below
  while [ ${#wave[@]} -gt 0 ]; do
    echo "${wave[@]}"
    below=$(ps -o pid= --ppid "$(IFS=,; echo "${wave[*]}")")
    read -r -a wave <<<"${below//$'\n'/ }"
  done
}

# what a slurmd that was killed leaves behind: step daemons, and their tasks
steps() {
  local pid
  for pid in $(ps -e -o pid=,comm= | awk '$2 == "slurmstepd" { print $1 }'); do
    [ -n "$(find "/proc/$pid/fd" -lname "$dir/*" -print -quit 2>/dev/null)" ] && echo "$pid"
  done
}

if pid_of "$dir" slurmctld >/dev/null; then
  # shellcheck disable=SC2046 # a list of numbers
  timeout 20 scancel --state=PENDING,RUNNING,SUSPENDED --quiet --hurry $(timeout 10 squeue -h -o %A) 2>/dev/null
  wait_for 30 no_jobs
fi
left=$(steps)
if [ -n "$left" ]; then
  # shellcheck disable=SC2046,SC2086 # lists of numbers
  kill -9 $(descendants $left) 2>/dev/null
fi
for daemon in "${daemons[@]}"; do
  pid=$(pid_of "$dir" "$daemon") || continue
  kill "$pid"
  wait_for 20 has_ended "$pid" || kill -9 "$pid"
  rm -f "$dir/$daemon.pid"
done
true
