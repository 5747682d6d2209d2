#!/usr/bin/env bash
# base.sh OUT.tar: a minimal Debian 12 from the mirror that apt uses on this machine, as a docker-archive; as root.
#
# Both `docker load` and Apptainer's docker-archive read the file. No engine is needed to write it.
set -Eeuo pipefail
out=$(realpath -m "$1")
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
mirror=$(apt-get indextargets --format "\$(SITE)" 'Created-By: Packages' 'Origin: Debian' | grep '/debian/\?$' | sort -u | head -n 1)
if ! debootstrap --variant=minbase bookworm "$work/system" "$mirror" >"$work/log" 2>&1; then
  tail -n 20 "$work/log" >&2
  exit 1
fi
rm -rf "$work"/system/var/cache/apt/* "$work"/system/var/lib/apt/lists/* "$work"/system/var/log/* "$work"/system/dev/*
mkdir "$work/archive"
tar -C "$work/system" --sort=name --mtime=@0 --numeric-owner -cf "$work/archive/layer.tar" .
layer=$(sha256sum "$work/archive/layer.tar" | cut -d' ' -f1)
cat >"$work/archive/config.json" <<END
{"architecture": "amd64", "os": "linux", "created": "1970-01-01T00:00:00Z",
 "config": {"Env": ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"], "Cmd": ["bash"]},
 "rootfs": {"type": "layers", "diff_ids": ["sha256:$layer"]},
 "history": [{"created": "1970-01-01T00:00:00Z", "created_by": "debootstrap"}]}
END
echo '[{"Config": "config.json", "RepoTags": ["euler-base:debootstrap"], "Layers": ["layer.tar"]}]' >"$work/archive/manifest.json"
tar -C "$work/archive" --sort=name --mtime=@0 --numeric-owner -cf "$out.new" manifest.json config.json layer.tar
mv "$out.new" "$out"
