# The attack of CVE-2023-31436, demo.sh PART MTU...: `without` a policy, with one that is loaded into a system at work
# (`transition`), and in the `working` phase.
. /otf/lib.sh

PART=$1
shift
MTUS=$*
CHANGED=/sys/kernel/debug/neighbour/changed

prepare() {
	check modules load_modules
	check oracle load_module neighbour
}

attacks_set_up() {
	n=0
	for mtu in $MTUS; do
		n=$((n + 1))
		check "attack.$mtu.set_up" trigger setup $n "$mtu"
	done
}

without() {
	n=0
	for mtu in $MTUS; do
		n=$((n + 1))
		check "attack.$mtu.set_up" trigger setup $n "$mtu"
		equal "attack.$mtu.neighbour_before" 0 "$(cat $CHANGED)"
		trigger fire $n
		more "attack.$mtu.neighbour_changed" 1 "$(cat $CHANGED)"
		echo 1 >/sys/kernel/debug/neighbour/restore
	done
}

# The attacks, and after each of them ordinary use of the qdisc ord$1 and of a new one.
attacks() {
	n=0
	for mtu in $MTUS; do
		n=$((n + 1))
		trigger fire $n
		equal "attack.$mtu.neighbour_intact" 0 "$(cat $CHANGED)"
		observe "attack.$mtu"
		trigger poke $n
		equal "attack.$mtu.neighbour_still_intact" 0 "$(cat $CHANGED)"
		observe "again.$mtu"
		otf-load unload --all >/dev/null 2>&1
		equal "attack.$mtu.unload_is_refused" 2 $?
		check "attack.$mtu.ordinary_traffic_goes_on" ordinary traffic "$1"
		check "attack.$mtu.new_qdisc_works" ordinary all 9
		observe "ordinary.after_$mtu"
		check "attack.$mtu.quarantined_can_be_deleted" trigger delete $n
		observe "delete.$mtu"
	done
}

finish() {
	check ordinary.classes ordinary classes "$1"
	observe ordinary.end
	check unload otf-load unload --all
	check ordinary.without_policy ordinary traffic "$1"
	check ordinary.delete ordinary delete "$1"
	quiet_kernel kernel_has_no_complaint
}

prepare
case $PART in
without)
	without
	;;
transition)
	check ordinary.set_up ordinary setup 1
	check ordinary.before_load ordinary traffic 1
	attacks_set_up
	load_bundle deny
	check ordinary.old_qdisc ordinary traffic 1
	check ordinary.old_qdisc_classes ordinary classes 1
	observe ordinary.old_qdisc
	attacks 1
	finish 1
	;;
working)
	load_bundle deny
	check phase otf-load phase working
	check ordinary.set_up ordinary setup 1
	check ordinary.traffic ordinary traffic 1
	check ordinary.classes ordinary classes 1
	observe ordinary.new_qdisc
	attacks_set_up
	attacks 1
	finish 1
	;;
esac
