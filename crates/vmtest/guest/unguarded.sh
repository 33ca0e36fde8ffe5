# What a kernel that is too old for the guard can do: unguarded.sh audit|kill. The attack does its harm, so that its qdisc is
# not deleted.
. /otf/lib.sh

ACTION=$1
CHANGED=/sys/kernel/debug/neighbour/changed

check modules load_modules
check oracle load_module neighbour
otf-load load /otf/bundle.otf --key /otf/key.pub --action deny >/tmp/refused 2>&1
equal deny.is_refused 2 $?
equal deny.leaves_nothing "nothing is loaded" "$(otf-load status)"
load_bundle "$ACTION"
check ordinary.set_up ordinary setup 1
check ordinary.transition ordinary all 2
check phase otf-load phase working
check ordinary.working ordinary all 3
observe ordinary
check attack.set_up trigger setup 1 2097138
trigger fire 1
more attack.neighbour_changed 1 "$(cat $CHANGED)"
observe attack
check unload otf-load unload --all
quiet_kernel kernel_has_no_complaint
