# Ordinary use of the stock module under its bundle, action $1: not one violation.
. /otf/lib.sh

check modules load_modules
check ordinary.set_up ordinary setup 1
check ordinary.before_load ordinary traffic 1
load_bundle "$1"
check ordinary.old_qdisc ordinary traffic 1
check ordinary.classes ordinary classes 1
check ordinary.new_qdisc ordinary all 2
check ordinary.delete ordinary delete 1
observe ordinary.transition
check phase otf-load phase working
check ordinary.working ordinary all 3
observe ordinary.working
check unload otf-load unload --all
check ordinary.without_policy ordinary all 4
quiet_kernel kernel_has_no_complaint
