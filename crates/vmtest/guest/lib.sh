# Shell functions for scripts of the test machine (busybox sh). Read with: . /otf/lib.sh

# check NAME COMMAND...: one test; it passes when the command does.
check() {
	check_name=$1
	shift
	if check_output=$("$@" 2>&1); then
		echo "OTF-TEST $check_name PASS"
	else
		echo "OTF-TEST $check_name FAIL ($*) $(echo "$check_output" | tail -n 3 | tr '\n' ' ')"
		return 1
	fi
}

# equal NAME WANTED FOUND: one test; it passes when both are the same text.
equal() {
	if [ "$2" = "$3" ]; then
		echo "OTF-TEST $1 PASS $3"
	else
		echo "OTF-TEST $1 FAIL wanted $2, found $3"
		return 1
	fi
}

# more NAME LEAST FOUND: one test; it passes when FOUND is a number of at least LEAST.
more() {
	if [ "$3" -ge "$2" ] 2>/dev/null; then
		echo "OTF-TEST $1 PASS $3"
	else
		echo "OTF-TEST $1 FAIL wanted at least $2, found $3"
		return 1
	fi
}

# load_modules: loads what the host listed, dependencies first.
load_modules() {
	while read -r module; do
		load_module "$module" || return 1
	done </otf/modules/order
}

# load_module NAME [PARAMETER=VALUE...]
load_module() {
	module=$1
	shift
	insmod "/otf/modules/$module.ko" "$@"
}

# kernel_complaints: what the kernel said that it should not have said.
kernel_complaints() {
	dmesg | grep -E 'Oops|BUG:|kernel BUG|general protection|unable to handle|WARNING: |soft lockup|rcu_.*stall|non-static key|Invalid wait context|lock order inversion'
}

KMEMLEAK=/sys/kernel/debug/kmemleak

# leaks_known: what kmemleak finds now is not what the test is about.
leaks_known() {
	echo scan >$KMEMLEAK && echo clear >$KMEMLEAK
}

# leaks: what kmemleak finds, a line for each object: its size, its task, who allocated it.
leaks() {
	# It tells of no object that is younger than five seconds. What a register or another CPU pointed to
	# while one scan ran is found by the next.
	sleep 6
	echo scan >$KMEMLEAK && echo scan >$KMEMLEAK || echo "kmemleak is off"
	awk '
		/^unreferenced object/ { flush(); size = $NF; sub(/\).*/, "", size); chain = "?"; frames = -1 }
		/^  comm/ { task = $2; gsub(/[",]/, "", task) }
		frames >= 0 && frames < 6 {
			name = $NF ~ /^\[/ ? $(NF - 1) : $NF
			sub(/\+.*/, "", name)
			chain = frames++ ? chain " < " name : name
		}
		/^  backtrace/ { frames = 0 }
		END { flush() }
		function flush() { if (size) print size " bytes of " task ": " chain }
	' $KMEMLEAK
}

# lockdep_watches: whether lockdep still looks: it stops at its first report.
lockdep_watches() { grep -q '^ debug_locks: *1' /proc/lockdep_stats; }

# Overlay, bundle and key are where the host puts them.
trigger() { sh /otf/overlay/trigger.sh "$@"; }
ordinary() { sh /otf/overlay/ordinary.sh "$@"; }

# load_bundle ACTION: one test; it passes when the bundle is loaded.
load_bundle() {
	check "load.$1" otf-load load /otf/bundle.otf --key /otf/key.pub --action "$1"
}

# observe LABEL: hands new events and the state of the loaded policy to the host.
observe() {
	if otf-load events --format ndjson >/tmp/events 2>/tmp/errors &&
		otf-load status --format ndjson >/tmp/status 2>>/tmp/errors; then
		sed "s/^/OTF-EVENT $1 /" /tmp/events
		sed "s/^/OTF-STATUS $1 /" /tmp/status
	else
		echo "OTF-TEST observe.$1 FAIL $(tr '\n' ' ' </tmp/errors)"
	fi
}

# quiet_kernel NAME: one test; it passes when the kernel has nothing to complain about.
quiet_kernel() {
	equal "$1" "" "$(kernel_complaints | head -n 3 | tr '\n' ';')"
}
