# The machine itself, and the ordinary use of the module without a policy.
. /otf/lib.sh

for folder in /proc /sys /dev /tmp /run /sys/kernel/debug /sys/kernel/tracing /sys/fs/bpf /sys/fs/cgroup; do
	check "mounted.$(echo $folder | tr / _)" grep -q " $folder " /proc/mounts
done
for tool in tc ip ping; do
	check "tool.$tool" "$tool" -V
done
check modules load_modules
check ordinary ordinary all 1
quiet_kernel kernel_has_no_complaint
