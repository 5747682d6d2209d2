#!/usr/bin/env bash
# up.sh [DIR] [PORT]: a real SLURM of two nodes on this machine, with accounting, all of it in the folder DIR.
#
#   DIR    default ${TMPDIR:-/tmp}/euler-slurm-$UID; other users must be able to reach it
#   PORT   the first of 16 TCP ports on the loopback interface, default 16800; a second cluster takes others
#
# Run as root, as slurmd starts the jobs of every user. Installs Debian's packages where they are missing. A cluster
# that runs there already is left alone; the rest of one that crashed is removed. The accounts of jobs begin anew.
# The only thing outside DIR is a line in /etc/hosts for node1 and node2. Stop it with down.sh DIR.
set -Eeuo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
# shellcheck source=slurm/cluster/daemons.sh
. "$here/daemons.sh"
dir=${1:-${TMPDIR:-/tmp}/euler-slurm-$UID}
port=${2:-16800}
export PATH=$PATH:/usr/sbin:/sbin

missing_packages() {
  local need
  for need in slurmctld:slurm-wlm slurmd:slurm-wlm sbatch:slurm-wlm munged:munge slurmdbd:slurmdbd mariadbd:mariadb-server; do
    command -v "${need%%:*}" >/dev/null || echo "${need##*:}"
  done
}

install_packages() {
  local missing
  mapfile -t missing < <(missing_packages)
  [ ${#missing[@]} -eq 0 ] && return
  if ! command -v apt-get >/dev/null; then
    echo "slurm/cluster: ${missing[*]} missing, and there is no apt-get; use Debian or Ubuntu, or install them" >&2
    exit 1
  fi
  exec 8</var/lib/apt/lists # apt-get update does not wait for another one, which starts another cluster here
  flock 8
  mapfile -t missing < <(missing_packages)
  if [ ${#missing[@]} -gt 0 ] && ! { apt-get update -q && DEBIAN_FRONTEND=noninteractive apt-get install -q -y \
    -o DPkg::Lock::Timeout=300 --no-install-recommends "${missing[@]}"; } >"$dir/apt.log" 2>&1 8>&-; then
    tail -n 20 "$dir/apt.log" >&2
    echo "slurm/cluster: apt-get failed, see $dir/apt.log" >&2
    exit 1
  fi
  exec 8>&-
}

is_up() {
  local daemon
  for daemon in "${daemons[@]}"; do
    pid_of "$dir" "$daemon" >/dev/null || return 1
  done
  [ "$(timeout 10 sinfo -h -p high -t idle,alloc,mix,comp -o %D | awk '{ n += $1 } END { print n + 0 }')" = 2 ]
}

both_idle() { [ "$(sinfo -h -p high -t idle -o %D)" = 2 ]; }

configure() {
  local name
  for name in slurm.conf slurmdbd.conf; do
    (
      case $name in slurmdbd.conf) umask 077 ;; esac
      sed -e "s#@DIR@#$dir#g; s#@PORT@#$port#g; s#@PORT_DBD@#$((port + 1))#g; s#@PORT_SQL@#$((port + 2))#g" \
        -e "s#@PORT_NODES@#$((port + 11))-$((port + 12))#g; s#@PORT_GPUS@#$((port + 13))-$((port + 14))#g" \
        "$here/$name" >"$dir/$name"
    )
  done
  (umask 077 && head -c 1024 /dev/urandom >"$dir/munge.key")
  # ranks on other nodes find rank 0 by the name of its node
  getent hosts node1 >/dev/null && getent hosts node2 >/dev/null ||
    echo '127.0.0.1 node1 node2 # throw-away SLURM cluster' >>/etc/hosts
}

check_ports() {
  local taken
  for taken in "$port" $((port + 1)) $((port + 2)) $((port + 11)) $((port + 12)); do
    if (: >"/dev/tcp/127.0.0.1/$taken") 2>/dev/null; then
      echo "slurm/cluster: port $taken is taken; choose others: up.sh $dir PORT" >&2
      exit 1
    fi
  done
}

start_accounting() {
  local fresh
  # the package's own fresh data folder is a copy of 0.1 s; making one takes 4 s
  fresh=$(mariadbd --no-defaults --verbose --help 2>/dev/null | awk '$1 == "datadir" { print $2 }')
  if [ -d "$fresh/mysql" ] && [ ! -e "$fresh/slurm_acct_db" ] && ! [ -S /run/mysqld/mysqld.sock ]; then
    cp -a "$fresh" "$dir/db"
  else
    mariadb-install-db --no-defaults --user=mysql --datadir="$dir/db" --skip-test-db >"$dir/mariadb-install.log"
  fi
  nohup mariadbd --no-defaults --user=mysql --datadir="$dir/db" --socket="$dir/db/my.sock" \
    --pid-file="$dir/db/my.pid" --bind-address=127.0.0.1 --port=$((port + 2)) --skip-name-resolve \
    --init-file="$here/accounts.sql" --innodb-lock-wait-timeout=900 --innodb-flush-log-at-trx-commit=0 \
    >"$dir/mariadb.log" 2>&1 </dev/null &
  echo $! >"$dir/mariadbd.pid"
  wait_for 60 mariadb-admin --no-defaults -h 127.0.0.1 -P $((port + 2)) -uslurm -pslurm ping
  slurmdbd
  wait_for 30 timeout 5 sacctmgr -n list cluster
  timeout 20 sacctmgr -i add cluster throwaway >"$dir/sacctmgr.log"
}

if [ "$(id -u)" != 0 ]; then
  echo "slurm/cluster: run up.sh as root: slurmd starts the jobs of every user" >&2
  exit 1
fi
mkdir -p "$dir"
dir=$(cd "$dir" && pwd)
chmod 755 "$dir"
export SLURM_CONF=$dir/slurm.conf
exec 9>"$dir/.lock" # two at once: the second waits, and finds the cluster up
flock 9
install_packages
if ! runuser -u mysql -- test -x "$dir"; then
  echo "slurm/cluster: $dir: a folder above it is closed to other users; choose another DIR" >&2
  exit 1
fi
if [ -s "$SLURM_CONF" ] && is_up; then
  echo "export SLURM_CONF=$SLURM_CONF"
  exit 0
fi
if [ -e "$SLURM_CONF" ]; then
  "$here/down.sh" "$dir" 9>&-
fi
check_ports
trap '"$here/down.sh" "$dir" 9>&-' ERR
rm -rf "$dir"/{db,state,spool.node1,spool.node2,munge.seed,munge.socket*} "$dir"/*.pid "$dir"/*.log
mkdir -p "$dir"/{state,spool.node1,spool.node2}
configure
{
  munged --force --key-file="$dir/munge.key" --socket="$dir/munge.socket" --pid-file="$dir/munged.pid" \
    --log-file="$dir/munged.log" --seed-file="$dir/munge.seed"
  wait_for 20 munge -S "$dir/munge.socket" -n
  start_accounting
  slurmctld -f "$SLURM_CONF"
  slurmd -f "$SLURM_CONF" -N node1
  slurmd -f "$SLURM_CONF" -N node2
} 9>&- # a daemon would keep the lock
wait_for 60 both_idle
srun -p high -N2 true
echo "export SLURM_CONF=$SLURM_CONF"
