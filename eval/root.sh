#!/bin/sh
# eval/root.sh SOURCE: makes the root file system of the evaluation's machine, a Debian 12 with network tools and the
# kernel's own network selftests out of the kernel source tree SOURCE; prints the path of the ext4 image. The image lies in
# $OTF_CACHE/rootfs under a hash of what it is made from, and is made once.
set -eu
source=$(readlink -f "$1")
here=$(dirname "$(readlink -f "$0")")
cache=${OTF_CACHE:-$HOME/.cache/otf}/rootfs
hash=$({ cat "$here/root.sh"; basename "$(dirname "$source")"; } | sha256sum | cut -c1-16)
image=$cache/$hash/root.ext4
if [ -f "$image" ]; then
	echo "$image"
	exit
fi

# Programs that this needs, and the packages that have them.
missing=
while read -r program package; do
	command -v "$program" >/dev/null || [ -e "$program" ] || missing="$missing $package"
done <<-'LIST'
	mmdebstrap mmdebstrap
	fakeroot fakeroot
	mke2fs e2fsprogs
	rsync rsync
	/usr/include/libmnl/libmnl.h libmnl-dev
	/usr/include/sys/capability.h libcap-dev
	/usr/include/numa.h libnuma-dev
LIST
if [ -n "$missing" ]; then
	if [ "$(id -u)" -ne 0 ]; then
		echo "error[OTF0002]: these packages are missing; run" >&2
		echo "  sudo apt-get install --no-install-recommends$missing" >&2
		exit 2
	fi
	# shellcheck disable=SC2086 # a list of words
	DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends $missing >&2
fi

# What the selftests and the workloads run.
packages=$(tr -s ' \n' ',' <<-'LIST'
	iproute2/bookworm-backports nftables conntrack ethtool iptables ipset
	socat iperf3 netcat-openbsd nginx-light apache2-utils openssl
	iputils-ping iputils-tracepath traceroute arping ndisc6 tcpdump
	python3 python3-pyroute2 python3-scapy jq bc kmod procps libmnl0 libcap2 libnuma1
LIST
)
# mirror SUITE: where this machine gets it from.
# shellcheck disable=SC2016 # apt expands it
mirror() { apt-get indextargets --format '$(REPO_URI)' "Codename: $1" | sed -n 1p; }
mirror=$(mirror bookworm)
security=$(mirror bookworm-security)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

echo "root: packages" >&2
mmdebstrap --quiet --variant=minbase --components=main --include="${packages%,}" \
	--aptopt='APT::Install-Recommends "false"' --dpkgopt='path-exclude=/usr/share/doc/*' \
	--dpkgopt='path-exclude=/usr/share/man/*' --dpkgopt='path-exclude=/usr/share/locale/*' \
	bookworm "$work/root.tar" \
	"deb $mirror bookworm main" "deb $mirror bookworm-backports main" \
	${security:+"deb $security bookworm-security main"} >&2

# A program that cannot be built on this machine leaves the others alone; a script that needs it fails.
echo "root: selftests" >&2
make -s -C "$source" O="$work/build" headers_install >&2
make -s -C "$source/tools/testing/selftests" O="$work/build" FORCE_TARGETS= \
	TARGETS="net net/netfilter net/forwarding tc-testing" INSTALL_PATH="$work/selftests" \
	-i -j"$(nproc)" install >"$work/selftests.log" 2>&1 || true
for script in net/fib_tests.sh net/netfilter/nft_nat.sh net/forwarding/sch_ets.sh tc-testing/tdc.py; do
	[ -f "$work/selftests/$script" ] || {
		tail -n 20 "$work/selftests.log" >&2
		echo "root: the selftests have no $script" >&2
		exit 1
	}
done

echo "root: image" >&2
mkdir -p "$cache/$hash"
export work image
fakeroot sh -eu <<'PACK'
mkdir "$work/root"
tar -x -f "$work/root.tar" -C "$work/root" --exclude='./dev/*'
rm -rf "$work/root/var/cache/apt" "$work/root/var/lib/apt/lists"
cp -r "$work/selftests" "$work/root/selftests"
mkdir -p "$work/root/otf" "$work/root/lib/modules"
mke2fs -q -t ext4 -O ^has_journal,^metadata_csum -E lazy_itable_init=0,root_owner=0:0 \
	-d "$work/root" "$image.new" 1200M >&2
PACK
mv "$image.new" "$image"
echo "$image"
