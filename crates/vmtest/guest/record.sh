#!/bin/bash
# Runs one workload under a recording bundle, under a policy that denies, or without a bundle, task by task within the
# budget, and writes all results to the third disk as a tar archive:
#   results.tsv     task, pass | fail | skip | timeout | not-run, seconds
#   tasks/NAME.log  the end of what each task said
#   recording.json, status.txt, or status.json and events.ndjson of a policy
#   timing.txt, allocinfo.txt (where the kernel has it), dmesg.txt
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LC_ALL=C
. /otf/settings
out=/tmp/out
mkdir -p $out/tasks
: >$out/results.tsv
ulimit -n 200000
sysctl -qw kernel.panic=0 kernel.printk_ratelimit=0
ip link set lo up

seconds() { cut -d' ' -f1 /proc/uptime; }
timing() { printf '%s\t%s\n' "$1" "$(echo "$(seconds) - $2" | bc)" >>$out/timing.txt; }

for module in $modules; do
	modprobe -q "$module" || echo "OTF-NOTE no module $module"
done

# What must be there before a policy: modules whose slab caches legal sets name.
if [ -r "/otf/workloads/$workload.before.sh" ]; then
	. "/otf/workloads/$workload.before.sh"
fi

if [ "$mode" != without ]; then
	start=$(seconds)
	action=
	[ "$mode" = record ] || action="--action $mode"
	# shellcheck disable=SC2086 # an option and its value, or nothing
	if otf-load load /otf/bundle.otf --key /otf/key.pub $action >$out/load.txt 2>&1; then
		echo "OTF-TEST load PASS"
	else
		echo "OTF-TEST load FAIL $(tail -n 5 $out/load.txt | tr '\n' ' ')"
		# Without its policy the workload would show nothing.
		exit 1
	fi
	timing load "$start"
fi

# What lives between two looks at the kernel's own count of allocations is seen by neither: so there are many.
: >/tmp/allocinfo
if [ -r /proc/allocinfo ]; then
	(while sleep 2; do awk '$2 > 0 && $3 ~ /^(net|include|lib)\//' /proc/allocinfo >>/tmp/allocinfo; done) &
	sampler=$!
fi

start=$(seconds)
deadline=$((SECONDS + budget))

# task NAME LIMIT COMMAND...: one task of at most LIMIT seconds; kselftest's exit code 4 means skipped.
task() {
	local name=$1 limit=$2 left=$((deadline - SECONDS)) begin code result
	shift 2
	if [ -n "$only" ] && [[ " $only " != *" $name "* ]]; then
		return
	fi
	if [ $left -lt 5 ]; then
		printf '%s\tnot-run\t0\n' "$name" >>$out/results.tsv
		return
	fi
	[ $limit -le $left ] || limit=$left
	begin=$(seconds)
	timeout -k 5 "$limit" "$@" </dev/null >"/tmp/task" 2>&1
	code=$?
	case $code in
	0) result=pass ;;
	4) result=skip ;;
	124 | 137) result=timeout ;;
	*) result=fail ;;
	esac
	tail -c 20000 /tmp/task >"$out/tasks/${name//\//_}.log"
	printf '%s\t%s\t%s\n' "$name" $result "$(echo "$(seconds) - $begin" | bc)" >>$out/results.tsv
	echo "OTF-NOTE $name $result $(echo "$(seconds) - $begin" | bc)"
}
export -f seconds

cd /otf/workloads
. ./common.sh
. "./$workload.sh"
timing workload "$start"

case $mode in
record)
	start=$(seconds)
	if otf-load recording "$compartment" -o $out/recording.json >$out/recording.txt 2>&1; then
		echo "OTF-TEST recording PASS $(stat -c %s $out/recording.json) bytes"
	else
		echo "OTF-TEST recording FAIL $(tail -n 5 $out/recording.txt | tr '\n' ' ')"
	fi
	timing recording "$start"
	otf-load status >$out/status.txt 2>&1
	;;
deny)
	otf-load events --format ndjson >$out/events.ndjson 2>$out/events.txt
	if otf-load status --format json >$out/status.json 2>$out/status.txt; then
		echo "OTF-TEST status PASS"
	else
		echo "OTF-TEST status FAIL $(tail -n 5 $out/status.txt | tr '\n' ' ')"
		rm -f $out/status.json
	fi
	;;
esac
# Of each place the last look at which it held something.
if [ -n "$sampler" ]; then
	kill "$sampler"
	awk '{ last[$3 " " $4 " " $5] = $0 } END { for (place in last) print last[place] }' /tmp/allocinfo | sort -k3 >$out/allocinfo.txt
fi
dmesg | tail -n 3000 >$out/dmesg.txt
if tar -c -C $out . | dd of=/dev/vdc bs=1M iflag=fullblock conv=fsync status=none; then
	echo "OTF-TEST results PASS"
else
	echo "OTF-TEST results FAIL"
fi
# Unloading is a test of its own; the results are out already.
if [ "$mode" != without ]; then
	if timeout 600 otf-load unload "$compartment" >/tmp/unload 2>&1; then
		echo "OTF-TEST unload PASS"
	else
		echo "OTF-TEST unload FAIL $(tail -n 3 /tmp/unload | tr '\n' ' ')"
	fi
fi
