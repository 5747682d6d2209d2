#!/usr/bin/env bash
# as_user.sh USER [--no-network] COMMAND...: runs COMMAND as an ordinary user, the way Apptainer is used on a cluster; as root.
#
# The command is given the environment of the caller, with the home of USER. Where /dev/fuse is not for users, the
# command and its children, and nobody else, see one that is, so that a SIF is mounted and not unpacked each time.
set -Eeuo pipefail
user=$1
shift
if [ -z "${AS_USER_INSIDE:-}" ]; then
  namespaces=(--mount --propagation private)
  if [ "$1" = --no-network ]; then
    namespaces+=(--net)
    shift
  fi
  exec unshare "${namespaces[@]}" env AS_USER_INSIDE=1 "$0" "$user" "$@"
fi
if ! ip link set lo up 2>/dev/null; then :; fi # in a namespace of its own it is down at first
if [ -c /dev/fuse ] && ! setpriv --reuid "$user" --regid "$user" --clear-groups test -w /dev/fuse; then
  folder=$(mktemp -d)
  mount -t tmpfs -o mode=755,dev none "$folder"
  mknod -m 666 "$folder/fuse" c 10 229
  mount --bind "$folder/fuse" /dev/fuse
  umount -l "$folder"
  rmdir "$folder"
fi
exec setpriv --reuid "$user" --regid "$user" --init-groups env -u AS_USER_INSIDE -u XDG_RUNTIME_DIR -u DBUS_SESSION_BUS_ADDRESS \
  USER="$user" LOGNAME="$user" HOME="$(getent passwd "$user" | cut -d: -f6)" "$@"
