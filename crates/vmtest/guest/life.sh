# A bundle's life: killed loads, two operators, replacements under attack.
. /otf/lib.sh

CHANGED=/sys/kernel/debug/neighbour/changed
OPTIMIZATION=/proc/sys/debug/kprobes-optimization

# Not a function: what is killed must be otf-load, not a shell around it.
LOAD="otf-load load /otf/bundle.otf --key /otf/key.pub --action deny"

# Nothing of ours is in the kernel.
nothing_left() {
	equal "$1.pins" "" "$(ls /sys/fs/bpf/otf 2>/dev/null)"
	equal "$1.probes" "" "$(head -n 1 /sys/kernel/debug/kprobes/list)"
	equal "$1.guard" "" "$(grep otf_guard /proc/modules)"
	equal "$1.optimization" "$optimization" "$(cat $OPTIMIZATION)"
}

# kill_at NAME SECONDS COMMAND...: runs it and kills it without a warning.
kill_at() {
	name=$1
	after=$2
	shift 2
	"$@" >/dev/null 2>&1 &
	pid=$!
	sleep "$after"
	kill -9 $pid 2>/dev/null
	wait $pid 2>/dev/null
	echo "killed $name after $after s, left: $(ls /sys/fs/bpf/otf 2>/dev/null | tr '\n' ' ')"
}

# protected N: attack N does no harm.
protected() {
	trigger fire "$1"
	equal "attack.$1.neighbour_intact" 0 "$(cat $CHANGED)"
}

check modules load_modules
check oracle load_module neighbour
optimization=$(cat $OPTIMIZATION)
# Killed loads leave nothing that the next command does not take away.
for after in 0.2 1 2 4 6; do
	kill_at load $after $LOAD
	otf-load unload --all >/dev/null 2>&1
	nothing_left "killed_after_$after"
done

# Two operators at once: one bundle is loaded, and works.
$LOAD >/tmp/one 2>&1 &
one=$!
$LOAD >/tmp/two 2>&1 &
two=$!
wait $one
first=$?
wait $two
second=$?
equal two_operators.one_succeeds 2 $((first + second))
check two_operators.the_other_knows grep -qE 'OTF00(54|58)' /tmp/one /tmp/two
check two_operators.all_is_well otf-load status --check
$LOAD >/dev/null 2>&1
equal already_loaded 2 $?
rmmod sch_qfq 2>/dev/null
check module_stays grep -q '^sch_qfq ' /proc/modules

# From now on all objects are known, and stay so.
check phase otf-load phase working
check ordinary.set_up ordinary setup 1
check ordinary.traffic ordinary traffic 1
n=0
for mtu in 2097138 4194290 2147483647 2097138; do
	n=$((n + 1))
	check "attack.$n.set_up" trigger setup $n $mtu
done
observe ordinary.before

# Attacks before, during and after a replacement, and after replacements that were killed.
protected 1
$LOAD --replace >/tmp/replace 2>&1 &
pid=$!
sleep 1
protected 2
check ordinary.during_replacement ordinary traffic 1
wait $pid
equal replaced 0 $?
check unread_events_are_told grep -q 'qfq_schedule_agg' /tmp/replace
check phase_is_taken_over sh -c "otf-load status | grep -q 'phase working'"
equal quarantine_is_taken_over 2 "$(otf-load status | grep -c quarantined:)"
check ordinary.after_replacement ordinary traffic 1
protected 3
for after in 1 3 5 7; do
	kill_at replacement $after $LOAD --replace
	check "loaded_after_$after" sh -c "otf-load status | grep -q 'action deny, phase working'"
done
protected 4
check replaced_again $LOAD --replace
check ordinary.at_the_end ordinary traffic 1
equal all_are_quarantined 4 "$(otf-load status | grep -c quarantined:)"
observe attack.all
check unload otf-load unload --all --force
nothing_left unloaded
quiet_kernel kernel_has_no_complaint

# Somebody else's kprobes: one on a jump keeps it there, one that was there before keeps the probe a breakpoint.
EVENTS=/sys/kernel/tracing
jumps() { awk '$4 == "jump"' /proc/otf_guard | wc -l; }
hits() { awk -v event="$1" '$1 == event { print $2 }' $EVENTS/kprobe_profile; }
mount -t tracefs none $EVENTS 2>/dev/null
check foreign.load $LOAD
check foreign.ordinary ordinary traffic 1
all=$(jumps)
more foreign.jumps 100 "$all"
# A gate's probe stands behind the site of ftrace.
for place in qfq_enqueue+0x9 qfq_enqueue+0x5; do
	echo "p:otf/on_a_jump sch_qfq:$place" >$EVENTS/kprobe_events 2>/dev/null && break
done
check on_a_jump.accepted sh -c "echo 1 >$EVENTS/events/otf/on_a_jump/enable"
check on_a_jump.ordinary ordinary traffic 1
more on_a_jump.hits 1 "$(hits on_a_jump)"
check on_a_jump.all_is_well otf-load status --check
otf-load unload --all
equal on_a_jump.guard_stays 1 "$(grep -c '^otf_guard ' /proc/modules)"
check on_a_jump.ordinary_without ordinary traffic 1
echo 0 >$EVENTS/events/otf/on_a_jump/enable
echo >$EVENTS/kprobe_events
check on_a_jump.load_again $LOAD
equal on_a_jump.jumps_again "$all" "$(jumps)"
check on_a_jump.unload otf-load unload --all
nothing_left on_a_jump
echo "p:otf/before sch_qfq:$place" >$EVENTS/kprobe_events
check before.load $LOAD
more before.jumps 100 "$(jumps)"
check before.is_a_breakpoint test "$(jumps)" -lt "$all"
check before.enabled sh -c "echo 1 >$EVENTS/events/otf/before/enable"
check before.ordinary ordinary traffic 1
more before.hits 1 "$(hits before)"
echo 0 >$EVENTS/events/otf/before/enable
check before.ordinary_again ordinary traffic 1
echo >$EVENTS/kprobe_events
check before.all_is_well otf-load status --check
check before.unload otf-load unload --all
nothing_left before
quiet_kernel kernel_has_no_complaint_at_the_end
