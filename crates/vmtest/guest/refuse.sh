# Bundles that must not be loaded: each has a file /otf/bad/NAME.otf and the code that it must give.
. /otf/lib.sh

check modules load_modules
for bad in /otf/bad/*.otf; do
	name=$(basename "$bad" .otf)
	code=$(cat "/otf/bad/$name.code")
	otf-load load "$bad" --key /otf/key.pub --action audit >/tmp/out 2>&1
	equal "$name.exit" 2 $?
	check "$name.code" grep -q "$code" /tmp/out
	equal "$name.nothing_loaded" "" "$(ls /sys/fs/bpf/otf 2>/dev/null)"
	equal "$name.no_guard" "" "$(grep otf_guard /proc/modules)"
done
quiet_kernel kernel_has_no_complaint
