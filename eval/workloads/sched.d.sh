# The functions of the workload `sched`.

# traffic: a little of each protocol both ways between the namespaces a and b, in three bands of priority.
traffic() {
	ip netns exec a bash -c '
		ping -q -c 3 -i 0.01 -w 1 192.0.2.2 &
		ping -q -c 3 -i 0.01 -w 1 -Q 0x10 -s 1400 2001:db8:1::2 &
		ping -q -c 3 -i 0.01 -w 1 -m 7 192.0.2.2 &
		head -c 40000 /dev/zero | timeout 1 socat -u -b 1000 - UDP6:[2001:db8:1::2]:5202 &
		head -c 200000 /dev/zero | timeout 1 socat -u - TCP:192.0.2.2:5201
		wait' >/dev/null 2>&1
	return 0
}
serve() {
	ip netns exec b socat -u TCP-LISTEN:5201,fork,reuseaddr /dev/null >/dev/null 2>&1 &
	ip netns exec b socat -u UDP6-RECV:5202 /dev/null >/dev/null 2>&1 &
}
# part N OF: of the lines read, every OF-th.
part() { awk -v part="$1" -v of="$2" 'NR % of == part'; }
tca() { ip netns exec a tc "$@" 2>&1; }

# qdiscs PART OF: each qdisc as root: made, used, shown, changed, used, deleted.
qdiscs() {
	local used=0
	pair a b
	serve
	while IFS='|' read -r first second; do
		[ -n "$first" ] || continue
		# shellcheck disable=SC2086 # lists of words
		if tca qdisc add dev va root handle 1: $first; then
			used=$((used + 1))
			traffic
			[ -z "$second" ] || tca qdisc change dev va root handle 1: $second
			traffic
			tca -s -d qdisc show dev va
			tca -s class show dev va
			tca qdisc replace dev va root handle 1: $first
			tca qdisc del dev va root
		fi
	done < <(part "$1" "$2" <<-'LIST'
		pfifo limit 20|pfifo limit 40
		bfifo limit 20000|bfifo limit 40000
		pfifo_head_drop limit 5|pfifo_head_drop limit 50
		cake bandwidth 20mbit diffserv4 nat wash|cake bandwidth 30mbit besteffort ack-filter split-gso
		cake unlimited dual-srchost|cake unlimited triple-isolate diffserv8
		choke limit 100 bandwidth 10mbit min 10 max 30 avpkt 500|choke limit 60 bandwidth 5mbit ecn avpkt 500
		codel limit 100 target 1ms interval 10ms|codel limit 50 ecn target 2ms
		fq limit 1000 flow_limit 40 quantum 1500|fq maxrate 20mbit pacing
		fq_codel limit 300 flows 64|fq_codel quantum 300 ecn target 1ms
		fq_pie limit 300 flows 64 target 5ms|fq_pie tupdate 10ms ecn
		hhf limit 500 hh_limit 10|hhf admit_bytes 1000 non_hh_weight 3
		pie limit 50 target 5ms|pie ecn bytemode tupdate 20ms
		red limit 60000 min 5000 max 15000 avpkt 1000 burst 20 bandwidth 10mbit adaptive|red limit 60000 min 5000 max 15000 avpkt 1000 burst 20 ecn bandwidth 10mbit
		sfb limit 100 target 20 max 25|sfb limit 50 rehash 1000ms db 500ms
		sfq perturb 1 limit 100|sfq quantum 3000 redflowlimit 100000 min 8000 max 60000 probability 0.20 ecn
		skbprio limit 10|skbprio limit 60
		tbf rate 20mbit burst 5k latency 50ms|tbf rate 30mbit burst 10k latency 20ms peakrate 40mbit mtu 1600
		netem delay 2ms 1ms 25% loss 1% duplicate 1% reorder 25% 50%|netem delay 1ms corrupt 1% limit 50
		netem delay 3ms 2ms distribution normal rate 20mbit slot 1ms 2ms|netem loss gemodel 1% 10% 70% 0.1% gap 3 delay 1ms reorder 10%
		netem loss state 1% 90% 5% 5% 1%|netem seed 7 loss 2%
		plug limit 10000|
		prio bands 4|prio bands 3 priomap 1 2 2 2 1 2 0 0 1 1 1 1 1 1 1 1
		ets bands 4 strict 2 quanta 3000 1500|ets bands 3 strict 1 quanta 2000 1000 priomap 0 1 2
		gred setup DPs 3 default 1 grio|gred limit 60KB min 15K max 25K burst 20 avpkt 1000 bandwidth 10Mbit DP 1 probability 0.1 prio 2
		cbs idleslope 98688 sendslope -901312 hicredit 153 locredit -1389|cbs idleslope 9868 sendslope -90131 hicredit 15 locredit -138
		teql0|
		ingress|
		clsact|
		multiq|
		drr|
		hfsc default 1|hfsc default 2
		htb default 10 r2q 5|
		qfq|
		mqprio num_tc 2 map 0 1 0 1 hw 0|
		etf clockid CLOCK_TAI delta 300000|
		noqueue|
	LIST
	)
	unpair a b
	[ $used -gt 0 ]
}

# classful PART OF: each classful qdisc with classes, inner qdiscs and a filter; its classes changed and deleted under traffic.
classful() {
	local used=0
	pair a b
	serve
	local kind class change
	while IFS='|' read -r kind class change; do
		[ -n "$kind" ] || continue
		# shellcheck disable=SC2086 # lists of words
		{
			tca qdisc add dev va root handle 1: $kind
			tca class add dev va parent 1: classid 1:1 $class && used=$((used + 1))
			tca class add dev va parent 1: classid 1:2 $class
			tca class add dev va parent 1:1 classid 1:11 $class
			tca qdisc add dev va parent 1:2 handle 20: fq_codel
			tca qdisc add dev va parent 1:11 handle 30: sfq perturb 1
			tca qdisc add dev va parent 1:1 handle 40: pfifo limit 4
			tca filter add dev va parent 1: protocol ip prio 1 u32 match ip protocol 6 0xff flowid 1:2
			tca filter add dev va parent 1: protocol ipv6 prio 2 matchall flowid 1:11
			tca filter add dev va parent 1: protocol all prio 3 matchall flowid 1:1
			traffic
			traffic &
			tca class change dev va parent 1: classid 1:1 $change
			tca class change dev va parent 1: classid 1:2 $change
			tca -s class show dev va
			tca -s qdisc show dev va
			tca qdisc replace dev va parent 1:2 handle 21: netem delay 1ms
			wait
			traffic
			tca filter del dev va parent 1:
			tca class del dev va parent 1: classid 1:11
			tca class del dev va parent 1: classid 1:2
			tca qdisc del dev va root
		}
	done < <(part "$1" "$2" <<-'LIST'
		htb default 1|htb rate 10mbit ceil 20mbit prio 1|htb rate 5mbit ceil 30mbit burst 4k prio 2
		hfsc default 1|hfsc sc rate 10mbit ul rate 20mbit|hfsc sc m1 20mbit d 10ms m2 10mbit ul rate 30mbit
		drr|drr quantum 1500|drr quantum 600
		qfq|qfq weight 10 maxpkt 1500|qfq weight 100 maxpkt 2048
		prio bands 3|prio|prio
		ets bands 3 quanta 3000 2000 1000|ets quantum 4000|ets quantum 1000
		multiq|multiq|multiq
		tbf rate 30mbit burst 5k latency 20ms|tbf|tbf
	LIST
	)
	unpair a b
	[ $used -gt 0 ]
}

# classifiers PART OF: each as a filter of a prio qdisc, shown, replaced, used, deleted.
classifiers() {
	local used=0
	pair a b
	serve
	tca qdisc add dev va root handle 1: htb default 3
	for i in 1 2 3; do tca class add dev va parent 1: classid 1:$i htb rate 20mbit; done
	ip -n a route add 198.51.100.0/24 via 192.0.2.2 realm 5
	ip -n a route replace 192.0.2.0/24 dev va src 192.0.2.1 realm 10
	ip netns exec a iptables -t mangle -A OUTPUT -p icmp -j MARK --set-mark 6 2>/dev/null
	while IFS='|' read -r first second; do
		[ -n "$first" ] || continue
		# shellcheck disable=SC2086 # lists of words
		if tca filter add dev va parent 1: prio 10 $first; then
			used=$((used + 1))
			traffic
			tca -s filter show dev va parent 1:
			[ -z "$second" ] || { tca filter add dev va parent 1: prio 10 $second; tca filter replace dev va parent 1: prio 10 $second; }
			traffic
			tca -s -d filter show dev va
			tca filter del dev va parent 1: prio 10
		fi
	done < <(part "$1" "$2" <<-'LIST'
		protocol ip handle 1 basic match 'meta(priority gt 0)' flowid 1:1|protocol ip handle 1 basic match 'cmp(u8 at 9 layer network eq 6)' flowid 1:2
		protocol ip basic match 'u32(u32 0x06000000 0xff000000 at 8)' flowid 1:1|
		protocol ip basic match 'nbyte("abc" at 40 layer 1) or meta(rtiif eq 1)' flowid 1:1|
		protocol ip basic match 'text("foo" algo kmp from 0 to 100)' flowid 1:1|
		protocol ip route to 10 flowid 1:1|protocol ip route to 5 from 3 flowid 1:2
		protocol ip route to 10 classid 1:2 police rate 10mbit burst 10k drop|protocol ip route from 4 classid 1:1
		protocol ip route fromif lo to 10 classid 1:1|protocol ip route to 11 classid 1:1
		protocol ip handle 6 fw classid 1:1|protocol ip handle 7 fw classid 1:2 police rate 1mbit burst 10k
		protocol ip handle 6/0xff fw classid 1:1|
		protocol ip u32 match ip dst 192.0.2.2/32 match ip sport 0 0x0 flowid 1:1|protocol ip u32 match ip tos 0x10 0xff flowid 1:2
		protocol ipv6 u32 match ip6 dst 2001:db8:1::/64 flowid 1:2|protocol ipv6 u32 match ip6 priority 0x10 0xff flowid 1:1
		protocol ip handle 1: u32 divisor 16|protocol ip u32 ht 1:2 match ip protocol 1 0xff flowid 1:1
		protocol all matchall classid 1:1|protocol all matchall classid 1:2 action pass
		protocol ip handle 1 flow hash keys src,dst,proto,proto-src,proto-dst divisor 3 baseclass 1:1|protocol ip handle 1 flow hash keys mark,nfct divisor 2 perturb 1
		protocol ip handle 2 flow map key dst addend -192.0.2.1 rshift 0 divisor 3 baseclass 1:1|
		protocol ip handle 1: cgroup|
		protocol ip flower ip_proto tcp dst_ip 192.0.2.0/24 classid 1:1|protocol ip flower ip_proto udp src_port 5000-6000 dst_port 5201 classid 1:2
		protocol ipv6 flower ip_proto icmpv6 type 128 classid 1:2|protocol ipv6 flower dst_ip 2001:db8:1::2 ip_tos 0x20/0xf0 classid 1:1
		protocol all flower src_mac 02:00:00:00:00:01/ff:00:00:00:00:00 classid 1:1|protocol all flower indev va classid 1:2
		protocol ip flower tcp_flags 0x2/0x3f ip_proto tcp ct_state +trk+est classid 1:1|protocol ip flower ip_ttl 64 classid 1:2
	LIST
	)
	unpair a b
	[ $used -gt 0 ]
}

# actions PART OF: each action on a matchall filter at egress and ingress.
actions() {
	local used=0
	pair a b
	serve
	ip -n a link add ifb0 type ifb
	ip -n a link set ifb0 up
	tca qdisc add dev va clsact
	while read -r action; do
		[ -n "$action" ] || continue
		for side in egress ingress; do
			# shellcheck disable=SC2086 # lists of words
			if tca filter add dev va $side protocol all prio 5 matchall action $action; then
				used=$((used + 1))
				traffic
				tca -s filter show dev va $side
				tca filter replace dev va $side protocol all prio 5 matchall action $action
				tca filter del dev va $side prio 5
			fi
		done
	done < <(part "$1" "$2" <<-'LIST'
		pass
		gact pass random determ drop 20
		gact reclassify random netrand drop 10
		mirred egress mirror dev ifb0
		mirred egress redirect dev va
		police rate 20mbit burst 20k conform-exceed drop/pipe
		police pkts_rate 1000 pkts_burst 100 conform-exceed pipe
		pedit ex munge ip ttl set 33 pipe csum ip
		pedit ex munge ip6 hoplimit set 32
		csum ip4h tcp udp icmp
		nat egress 192.0.2.1/32 192.0.2.9
		nat ingress 192.0.2.1/32 192.0.2.1
		simple sdata hello
		skbedit priority 1:2 mark 3 queue_mapping 0
		skbedit ptype host inheritdsfield
		vlan push id 5 protocol 802.1q
		vlan pop
		sample rate 2 group 5 trunc 60
		connmark zone 1
		ctinfo dscp 0xfc 0x01000000
		skbmod set dmac 02:00:00:00:00:02
		skbmod ecn
		tunnel_key set src_ip 192.0.2.1 dst_ip 192.0.2.2 id 7 dst_port 4789 nocsum
		tunnel_key unset
		ct
		ct commit zone 2 mark 5/0xff nat src addr 192.0.2.1
		ct clear
		mpls push protocol mpls_uc label 20
		gate clockid CLOCK_TAI base-time 0 sched-entry open 1000000 -1 -1 sched-entry close 200000 -1 -1
		ife encode allow mark type 0xED3E
		goto chain 3
	LIST
	)
	tca actions add action police rate 1mbit burst 10k index 9
	tca actions add action gact drop index 9
	tca -s actions ls action police
	tca actions change action police rate 2mbit burst 10k index 9
	tca actions flush action police
	tca actions flush action gact
	unpair a b
	[ $used -gt 0 ]
}

# Shared blocks, chains, and the special devices of teql and ifb.
ingress_blocks() {
	pair a b
	serve
	tca qdisc add dev va ingress_block 22 egress_block 23 clsact
	tca chain add block 22 chain 4
	tca filter add block 22 protocol ip prio 1 flower ip_proto icmp action goto chain 4
	tca filter add block 22 protocol ip chain 4 prio 1 flower ip_ttl 64 action ok
	tca filter add block 23 protocol all prio 1 matchall action ok
	traffic
	tca -s filter show block 22
	tca chain del block 22 chain 4
	tca filter del block 22
	tca qdisc del dev va clsact
	ip netns exec a modprobe -q sch_teql
	ip -n a link set teql0 up
	tca qdisc add dev va root teql0
	ip -n a addr add 198.51.100.1/24 dev teql0
	traffic
	ip netns exec a ping -q -c 2 -i 0.05 -w 1 198.51.100.2
	tca qdisc del dev va root
	unpair a b
}
