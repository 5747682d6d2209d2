# shellcheck shell=bash
# Sourced by up.sh and down.sh: what runs in a cluster's folder.

# in the order of stopping
# shellcheck disable=SC2034 # used where this is sourced
daemons=(slurmctld slurmd.node1 slurmd.node2 slurmdbd mariadbd munged)

# belongs DIR PID: whether a process is of the cluster in DIR; a number in a pid file may be another process's by now
belongs() {
  tr '\0' '\n' <"/proc/$2/environ" 2>/dev/null | grep -qxF "SLURM_CONF=$1/slurm.conf"
}

# is_alive PID: a zombie is not
is_alive() {
  local stat
  { read -r stat <"/proc/$1/stat"; } 2>/dev/null || return 1
  stat=${stat##*) }
  case ${stat%% *} in Z | X) return 1 ;; esac
}

# pid_of DIR DAEMON: its process id, nothing where it does not run
pid_of() {
  local pid
  pid=$(cat "$1/$2.pid" 2>/dev/null) || return 1
  [ -n "$pid" ] && is_alive "$pid" && belongs "$1" "$pid" && echo "$pid"
}

# wait_for SECONDS COMMAND...: repeat a command until it succeeds
wait_for() {
  local until=$((SECONDS + $1))
  shift
  until "$@" >/dev/null 2>&1; do
    if [ "$SECONDS" -gt "$until" ]; then
      echo "slurm/cluster: gave up waiting for: $*" >&2
      return 1
    fi
    sleep 0.05
  done
}
