#!/bin/bash
# Measures operations with or without bundles, one after the other; each prints its line as soon as it is measured.
#   OTF-LOADED COMPARTMENT NANOSECONDS PROBES     OTF-UNLOADED COMPARTMENT NANOSECONDS
#   OTF-BENCH {…}                                 OTF-BENCH-FAILED OPERATION REASON
#   OTF-STATUS {…}                                the state of each compartment at the end
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LC_ALL=C
. /otf/settings
. /otf/operations.sh
ulimit -n 200000
sysctl -qw kernel.panic=0 kernel.printk_ratelimit=0
ip link set lo up
# bridge: a slab cache of it holds objects that legal sets name.
for module in bridge dummy $modules; do
	modprobe -q "$module" || echo "OTF-NOTE no module $module"
done

# now: nanoseconds since boot.
now() { awk '/^now at/ { print $3; exit }' /proc/timer_list; }

for bundle in $bundles; do
	start=$(now)
	if otf-load load "/otf/bundles/$bundle.otf" --key /otf/key.pub --action "$action" --format json >/tmp/load 2>&1; then
		echo "OTF-LOADED $bundle $(($(now) - start)) $(grep -o '"probes": *[0-9]*' /tmp/load | tr -dc 0-9)"
	else
		echo "OTF-TEST load.$bundle FAIL $(tail -n 5 /tmp/load | tr '\n' ' ')"
		exit 1
	fi
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
		start=$(now)
		otf-load unload "$bundle" --force >/tmp/unload 2>&1 || {
			echo "OTF-TEST unload.$bundle FAIL $(tail -n 3 /tmp/unload | tr '\n' ' ')"
			exit 1
		}
		echo "OTF-UNLOADED $bundle $(($(now) - start))"
	done
fi
