# Loads, replaces and unloads a bundle with deny under traffic for $1 seconds: endurance.sh SECONDS
. /otf/lib.sh

LOAD="otf-load load /otf/bundle.otf --key /otf/key.pub --action deny"
end=$(($(cut -d. -f1 /proc/uptime) + $1))

goes_on() { [ "$(cut -d. -f1 /proc/uptime)" -lt $end ]; }

# Memory that is in use for good, in KB: what is free, or can be freed at once, taken off.
used() {
	echo 3 >/proc/sys/vm/drop_caches
	awk '/^MemTotal/ { all = $2 } /^MemAvailable/ { print all - $2 }' /proc/meminfo
}

# Traffic through two qdiscs of each kind of age: one that lives on, others that come and go.
traffic() {
	n=10
	while goes_on; do
		ordinary traffic 1 && ordinary classes 1 && ordinary all $n || {
			return 1
		}
		n=$((10 + (n + 1) % 5))
	done >/tmp/traffic 2>&1
}

# Not one violation in what was loaded until now.
none_refused() {
	violations=$((violations + $(otf-load status --format json | grep -o '"violations": *[0-9]*' | head -n 1 | tr -dc 0-9)))
	checks=$((checks + $(otf-load status --format json | grep -o '"checks": *[0-9]*' | head -n 1 | tr -dc 0-9)))
}

cycle() {
	$LOAD && sleep 2 && none_refused && $LOAD --replace && sleep 2 && none_refused && otf-load unload --all
}

check modules load_modules
check set_up ordinary setup 1
check warm_up cycle
[ ! -e $KMEMLEAK ] || check leaks_known leaks_known
before=$(used)
rounds=0
violations=0
checks=0
traffic &
traffic=$!
while goes_on; do
	if ! cycle >/tmp/cycle 2>&1; then
		echo "OTF-TEST cycle FAIL round $rounds: $(tail -n 3 /tmp/cycle | tr '\n' ' ')"
		break
	fi
	rounds=$((rounds + 1))
	echo "OTF-SAID round $rounds: $checks checks"
done
wait $traffic
equal traffic_went_on 0 $?
more rounds 2 $rounds
more checks 1 $checks
equal violations 0 $violations
equal pins "" "$(ls /sys/fs/bpf/otf 2>/dev/null)"
equal probes "" "$(head -n 1 /sys/kernel/debug/kprobes/list)"
equal guard "" "$(grep otf_guard /proc/modules)"
check delete ordinary delete 1
sleep 2
after=$(used)
# What belongs to the machine itself comes and goes.
more memory_is_given_back -8192 $((before - after))
[ ! -e $KMEMLEAK ] || equal kmemleak "" "$(leaks | head -n 3 | tr '\n' ';')"
[ ! -e /proc/lockdep_stats ] || check lockdep_watches lockdep_watches
quiet_kernel kernel_has_no_complaint
