# A private heap's life: every way to obtain and free, attackers outside, replacement, unloading with objects alive.
. /otf/lib.sh

LOAD="otf-load load /otf/bundle.otf --key /otf/key.pub"
GUARD=/proc/otf_guard

# cache_of DESCRIPTOR: the cache that its object is from, as the kernel says.
cache_of() {
	echo describe >&"$1"
	dmesg | sed -n 's/.* slab \([^ ]*\) start .*/\1/p' | tail -n 1
}

# reused NAME WANTED FILL: whether somebody outside gets memory that the compartment has freed too early.
reused() {
	exec 4<>/dev/otf_heap 5<>/dev/otf_heap
	# One object keeps the slab from going back to the page allocator.
	echo fixed 256 >&5
	echo fixed 256 >&4
	echo hold >&4
	echo kfree >&4
	echo "size=256 number=400 fill=$3" >/sys/kernel/debug/occupant/take
	seen=$(head -n 1 <&4)
	[ "$seen" = "$3" ] && seen=reused || seen=kept_apart
	equal "$1" "$2" "$seen"
	exec 4>&- 5>&-
}

served() { sed -n 's/^heap .* sent=\([0-9]*\).*/\1/p' $GUARD; }
heap() { grep '^heap ' $GUARD | cut -d ' ' -f 3; }

check modules load_modules
check oracle load_module occupant
check ordinary.without ordinary
reused without.attacker reused 161
# An object from before, which is freed when the policy is in force.
exec 6<>/dev/otf_heap
echo sized 200 >&6

$LOAD --action audit >/tmp/out 2>&1
equal without_guard.refused 2 $?
check without_guard.why grep -q OTF0053 /tmp/out
load_bundle deny
equal old.cache kmalloc-256 "$(cache_of 6)"
check old.freed sh -c 'echo kfree >&6'
exec 6>&-
equal heap.used used "$(heap)"
check ordinary.private ordinary
equal pages_stay 4294967295 "$(cat '/sys/kernel/slab/otf.otf_heap@heap-256/min_partial')"
check slabinfo grep -q '^otf.otf_heap@heap-' /proc/slabinfo
for obtain in fixed sized zeroed node array kv dup tail; do
	exec 4<>/dev/otf_heap
	echo "$obtain 250" >&4
	equal "cache.$obtain" otf.otf_heap@heap-256 "$(cache_of 4)"
	exec 4>&-
done
exec 4<>/dev/otf_heap
echo accounted 90 >&4
equal cache.accounted otf.otf_heap@heap-cg-96 "$(cache_of 4)"
echo kfree >&4
echo kv 8000 >&4
equal cache.kv_large kmalloc-8k "$(cache_of 4)"
exec 4>&-
reused private.attacker kept_apart 162
observe ordinary.private

# A replacement keeps heap and objects, and serves every call meanwhile.
exec 4<>/dev/otf_heap
echo sized 250 >&4
echo hold >&4
before=$(served)
check replace.ordinary_before ordinary
each=$(($(served) - before))
more replace.calls 100 "$each"
touch /tmp/replacing
before=$(served)
: >/tmp/runs
(while [ -e /tmp/replacing ]; do ordinary && echo >>/tmp/runs; done) &
pid=$!
check replace $LOAD --action deny --replace
rm /tmp/replacing
wait $pid
runs=$(wc -l </tmp/runs)
more replace.ordinary 1 "$runs"
equal replace.every_call_was_served $((runs * each)) $(($(served) - before))
equal replace.heap used "$(heap)"
equal replace.cache otf.otf_heap@heap-256 "$(cache_of 4)"
equal replace.object 90 "$(head -n 1 <&4)"
observe ordinary.replaced

# Unloaded with an object alive: the heap waits for it, and comes back if it is wanted.
check unload otf-load unload --all
equal retired retired "$(heap)"
check retired.told sh -c "otf-load status | grep 'private heap of otf_heap@heap is retired'"
equal retired.no_probe "" "$(grep -v '^heap ' $GUARD)"
check retired.object sh -c 'echo hold >&4'
check retired.ordinary ordinary
load_bundle deny
equal again used "$(heap)"
equal again.cache otf.otf_heap@heap-256 "$(cache_of 4)"
check again.ordinary ordinary
observe ordinary.again
check again.unload otf-load unload --all
equal again.retired retired "$(heap)"
check last_object sh -c 'echo rcu >&4'
exec 4>&-
# The guard looks again after 1, 2, 4, 8 … seconds.
for _ in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15; do
	[ -z "$(heap)" ] || sleep 3
done
equal gone "" "$(cat $GUARD)"
equal gone.caches "" "$(grep otf_heap@heap /proc/slabinfo)"
otf-load unload --all >/dev/null 2>&1
equal gone.guard "" "$(grep otf_guard /proc/modules)"
check ordinary.at_the_end ordinary
quiet_kernel kernel_has_no_complaint
