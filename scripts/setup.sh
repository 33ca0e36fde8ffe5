#!/bin/sh
# Installs what a fresh Debian 12 machine lacks: as root through apt, otherwise prints the one command.
set -eu

packages="
bc                  # the kernel that is built computes a table with it
binutils            # strip
bison               # Kconfig of the kernel that is built
busybox-static      # shell and tools of the test VM
ca-certificates     # cargo and pip
clang-19            # bitcode of the kernel and of the BPF checks
dpkg-dev            # unpacks packages
flex                # Kconfig of the kernel that is built
gcc-12              # modules are built with the kernel's own compiler
iproute2            # tc and ip, copied into the test VM
iputils-ping        # likewise
kmod                # modinfo
libbpf-dev          # bpf_helpers.h
libelf-dev          # otf-load, linked statically
liblzma-dev         # kernel packages are compressed with xz
libpolly-19-dev     # LLVM's own link line names it
libzstd-dev         # likewise
lld-19              # links the kernel that is built
llvm-19             # tools of that build; llvm-objdump, the independent disassembler of the tests
llvm-19-dev         # analyzer and policy compiler
make
minisign            # checks in tests what the signer writes
pahole              # BTF of the guard module
patch               # overlays
pkg-config
python3-pip         # brings the lint tools as binary wheels
qemu-system-x86     # test VM
xz-utils
zlib1g-dev
"
missing=
for p in $(echo "$packages" | sed 's/#.*//'); do
	dpkg-query -W -f '${Status}' "$p" 2>/dev/null | grep -q 'ok installed' || missing="$missing $p"
done
if [ -n "$missing" ]; then
	if [ "$(id -u)" -ne 0 ]; then
		echo "error[OTF0002]: these packages are missing; run" >&2
		echo "  sudo apt-get install --no-install-recommends$missing" >&2
		exit 2
	fi
	echo "setup: installing$missing"
	export DEBIAN_FRONTEND=noninteractive
	[ -n "$(find /var/lib/apt/lists -name '*_Packages*' -mtime -1 2>/dev/null | head -n 1)" ] || apt-get update -q
	# shellcheck disable=SC2086 # a list of words
	apt-get install -q -y --no-install-recommends $missing
fi
command -v cargo >/dev/null || {
	echo "error[OTF0002]: cargo is missing: install Rust 1.95 or newer" >&2
	exit 2
}
