# enter.sh SCRIPT: leaves the initramfs for the root on the first disk and runs /otf/SCRIPT there; modules are on the second
# disk.
. /otf/lib.sh
set -e
load_modules
mkdir -p /disk
mount -t ext4 -o noatime /dev/vda /disk
mount -t ext4 -o ro /dev/vdb /disk/lib/modules
cp -r /otf/. /disk/otf/
cp /bin/otf-load /disk/usr/local/bin/
if [ -f /otf/otf-exercise ]; then
	cp /otf/otf-exercise /disk/usr/local/bin/
fi
for folder in proc sys dev; do
	mount -o rbind "/$folder" "/disk/$folder"
done
mkdir -p /disk/dev/pts /disk/dev/shm
ln -s /proc/self/fd /disk/dev/fd
mount -t devpts devpts /disk/dev/pts || true
mount -t tmpfs tmpfs /disk/dev/shm
mount -t tmpfs tmpfs /disk/tmp
mount -t tmpfs tmpfs /disk/run
# The kernel looks for modprobe in the initramfs, whose `/` the next step hides from everybody else.
mkdir -p /sbin /root-for-kernel
printf '#!/bin/sh\nexec chroot /root-for-kernel /sbin/modprobe "$@"\n' >/sbin/modprobe
chmod +x /sbin/modprobe
mount -o rbind /disk /root-for-kernel
# As switch_root does: user namespaces are refused in a mere chroot.
cd /disk
mount -o move . /
exec chroot . /bin/bash "/otf/$1"
