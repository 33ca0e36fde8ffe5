# Ordinary use of net/sched: tc-testing for each qdisc, classifier and action; every kind with traffic, changed and
# deleted; selftests of forwarding. The cheapest come first.
modprobe -q -a dummy veth ifb
for part in 0 1 2 3; do
	own qdiscs 90 $part 4
	own classifiers 90 $part 4
	own actions 90 $part 4
	own classful 90 $part 4
done
own ingress_blocks 60

cp -n "$selftest/net/forwarding/forwarding.config.sample" "$selftest/net/forwarding/forwarding.config" 2>/dev/null
tdc() { task "tdc/$1" "$2" env -C "$selftest/tc-testing" python3 ./tdc.py -f "tc-tests/$1.json"; }
for file in filters/basic filters/route filters/fw filters/matchall filters/u32 filters/flow filters/cgroup filters/bpf \
	qdiscs/cake qdiscs/choke qdiscs/codel qdiscs/drr qdiscs/ets qdiscs/fq qdiscs/fq_codel qdiscs/fq_pie qdiscs/gred \
	qdiscs/hfsc qdiscs/hhf qdiscs/htb qdiscs/mqprio qdiscs/multiq qdiscs/netem qdiscs/plug qdiscs/prio qdiscs/qfq \
	qdiscs/red qdiscs/sfb qdiscs/sfq qdiscs/skbprio qdiscs/taprio qdiscs/tbf qdiscs/teql qdiscs/etf qdiscs/cbs \
	infra/actions infra/filter actions/gact actions/mirred actions/pedit actions/police actions/skbedit actions/vlan \
	actions/tunnel_key actions/ct actions/csum actions/nat actions/simple actions/sample actions/mpls actions/ife \
	actions/gate actions/connmark actions/ctinfo actions/skbmod actions/bpf qdiscs/ingress filters/flower; do
	tdc $file 60
done
script net/forwarding tc_actions.sh 90
script net/forwarding tc_chains.sh 90
script net/forwarding tc_shblocks.sh 60
script net/forwarding tc_police.sh 60
script net/forwarding tc_flower.sh 120
script net/forwarding sch_ets.sh 90
script net/forwarding sch_red.sh 60
script net/forwarding sch_tbf_root.sh 60
script net fq_band_pktlimit.sh 30
