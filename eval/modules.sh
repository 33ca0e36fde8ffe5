#!/bin/sh
# eval/modules.sh FOLDER RELEASE: packs the modules in FOLDER as an ext4 image with modules.dep, for /lib/modules of the
# evaluation's machine; prints its path. The image lies in $OTF_CACHE/rootfs and is made anew when a module changed.
set -eu
folder=$(readlink -f "$1")
release=$2
cache=${OTF_CACHE:-$HOME/.cache/otf}/rootfs
hash=$({ cat "$0"; cd "$folder"; find . -name '*.ko*' -printf '%P %s %T@\n' | sort; } | sha256sum | cut -c1-16)
image=$cache/modules-$release-$hash.ext4
if [ ! -f "$image" ]; then
	mkdir -p "$cache"
	work=$(mktemp -d)
	trap 'rm -rf "$work"' EXIT
	mkdir -p "$work/lib/modules"
	cp -r "$folder" "$work/lib/modules/$release"
	# Links to the build tree lead nowhere in the machine.
	rm -rf "$work/lib/modules/$release/build" "$work/lib/modules/$release/source"
	depmod -b "$work" "$release"
	megabytes=$(($(du -sm "$work" | cut -f1) * 5 / 4 + 32))
	mke2fs -q -t ext4 -O ^has_journal,^metadata_csum -E lazy_itable_init=0,root_owner=0:0 \
		-d "$work/lib/modules" "$image.new" "${megabytes}M" >/dev/null
	mv "$image.new" "$image"
fi
echo "$image"
