# Every kind of illegal write, call and free of the overlay: kinds.sh without|audit|kill|deny KIND...
. /otf/lib.sh

ACTION=$1
shift

check modules load_modules
check oracle.neighbour load_module neighbour fill=165
check oracle.victim load_module otf_victim
if [ "$ACTION" != without ]; then
	load_bundle "$ACTION"
	check phase otf-load phase working
fi
check ordinary ordinary
[ "$ACTION" = without ] || observe "ordinary.$ACTION"

for kind in "$@"; do
	# write=STATUS changed=BYTES command=STATUS; the ordinary use runs while the attacked file is open
	result=$(trigger "$kind" sh /otf/overlay/ordinary.sh)
	write=$(echo "$result" | sed -n 's/.*write=\([0-9]*\).*/\1/p')
	changed=$(echo "$result" | sed -n 's/.*changed=\([0-9]*\).*/\1/p')
	after=$(echo "$result" | sed -n 's/.*command=\([0-9]*\).*/\1/p')
	case $ACTION in
	without | audit)
		equal "$kind.write" 0 "$write"
		more "$kind.changed" 1 "$changed"
		;;
	kill)
		equal "$kind.write" 137 "$write"
		;;
	deny)
		equal "$kind.write" 1 "$write"
		equal "$kind.changed" 0 "$changed"
		;;
	esac
	equal "$kind.service" 0 "$after"
	if [ "$ACTION" != without ]; then
		observe "$kind"
		# The file of the attack is closed; what comes next may get its memory.
		check "$kind.release" otf-load release --all
	fi
done
check ordinary_after ordinary
[ "$ACTION" = without ] || {
	observe "ordinary_after.$ACTION"
	check unload otf-load unload --all
}
quiet_kernel kernel_has_no_complaint
