#!/bin/bash
# Measures operations with or without bundles, one after the other; each prints its line as soon as it is measured.
#   OTF-PROBES COMPARTMENT NUMBER                 OTF-WATCH {…}: {check,load,unload}.COMPARTMENT
#   OTF-BENCH {…}                                 OTF-BENCH-FAILED OPERATION REASON
#   OTF-STATUS {…}                                the state of each compartment at the end
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LC_ALL=C
. /otf/settings
. /otf/operations.sh
ulimit -n 200000
# Deny does so anyway: in all schemes a probe is an int3.
sysctl -qw debug.kprobes-optimization=0
sysctl -qw kernel.panic=0 kernel.printk_ratelimit=0
ip link set lo up
# bridge: a slab cache of it holds objects that legal sets name.
for module in bridge dummy $modules; do
	modprobe -q "$module" || echo "OTF-NOTE no module $module"
done

# watched NAME COMMAND...: what it took, or why it failed.
watched() {
	otf-exercise watch "$@" >/tmp/watched 2>&1 || {
		echo "OTF-TEST $1 FAIL $(tail -n 5 /tmp/watched | tr '\n' ' ')"
		exit 1
	}
	grep '^OTF-WATCH ' /tmp/watched
}

for bundle in $bundles; do
	load="otf-load load /otf/bundles/$bundle.otf --key /otf/key.pub --action $action --format json"
	# shellcheck disable=SC2086 # a command and its words
	watched "check.$bundle" $load --dry-run
	echo "OTF-PROBES $bundle $(grep -o '"probes": *[0-9]*' /tmp/watched | tr -dc 0-9)"
	# shellcheck disable=SC2086
	watched "load.$bundle" $load
done
otf-exercise memory /sys/fs/bpf/otf

for operation in $operations; do
	if ! "operation_$operation" >/tmp/said 2>&1; then
		echo "OTF-BENCH-FAILED $operation $(grep -v '^OTF-BENCH' /tmp/said | tail -n 2 | tr '\n' ' ')"
	fi
	grep '^OTF-BENCH {' /tmp/said
	if ! "after_${kind[$operation]}" >/tmp/said 2>&1; then
		echo "OTF-NOTE after $operation: $(tail -n 2 /tmp/said | tr '\n' ' ')"
	fi
done

if [ -n "$bundles" ]; then
	for bundle in $bundles; do
		otf-load events "$bundle" --format ndjson 2>/dev/null | head -n 20 | sed 's/^/OTF-EVENT bench /'
	done
	otf-load status --format ndjson | sed 's/^/OTF-STATUS bench /'
	for bundle in $bundles; do
		watched "unload.$bundle" otf-load unload "$bundle" --force
	done
fi
