#!/usr/bin/env bash
# apptainer.sh DIR: Debian's apptainer, which is in no release yet, unpacked into DIR; as root. DIR/bin is for the PATH.
#
# It comes with the libraries that it was built against and is made to use these, so that nothing of the system is
# changed but for helper packages of this release (squashfs-tools, squashfuse, uidmap, fakeroot, patchelf).
set -Eeuo pipefail
dir=$(realpath -m "$1")
[ -x "$dir/bin/apptainer" ] && exit 0
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
mkdir -p "$work"/lists/partial "$work"/cache/archives/partial "$work"/debs
mirror=$(apt-get indextargets --format "\$(SITE)" 'Created-By: Packages' 'Origin: Debian' | grep '/debian/\?$' | sort -u | head -n 1)
echo "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] $mirror sid main" >"$work/sources.list"
apt=(apt-get -qq -o "Dir::Etc::sourcelist=$work/sources.list" -o Dir::Etc::sourceparts=/dev/null
  -o "Dir::State::lists=$work/lists" -o "Dir::Cache=$work/cache" -o APT::Sandbox::User=root)
"${apt[@]}" update
if ! (cd "$work/debs" && "${apt[@]}" download apptainer libc6 libseccomp2 libsqlite3-0); then
  echo "apptainer.sh: Debian unstable has no such apptainer any more; put one on the PATH and run again" >&2
  exit 1
fi
rm -rf "$dir"
mkdir -p "$dir/lib"
for package in "$work"/debs/lib*.deb; do
  dpkg -x "$package" "$work/libraries"
done
find "$work/libraries" -path '*x86_64-linux-gnu/*' -name '*.so*' ! -path '*/gconv/*' ! -path '*/audit/*' -exec cp -Ln {} "$dir/lib/" \;
dpkg -x "$work"/debs/apptainer_*.deb "$dir"
starter=$(find "$dir/usr" -path '*/apptainer/bin/starter')
for program in "$dir/usr/bin/apptainer" "$starter"; do
  patchelf --set-interpreter "$dir/lib/ld-linux-x86-64.so.2" --force-rpath --set-rpath "$dir/lib" "$program"
done
# the moved programs look for etc and var below usr (apptainer) and below usr/lib (its starter)
mkdir -p "$dir"/usr/var/lib/apptainer/mnt/session "$dir"/usr/var/lib/apptainer/mnt/source
cp -a "$dir/etc" "$dir/usr/etc"
ln -sfn ../etc "$dir/usr/lib/etc"
ln -sfn ../var "$dir/usr/lib/var"
chmod -R a+rX "$dir"
ln -sfn usr/bin "$dir/bin"
"$dir/bin/apptainer" --version
