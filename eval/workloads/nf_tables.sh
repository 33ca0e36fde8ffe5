# Ordinary use of nf_tables: rule sets with every expression, set backend, object and hook, with traffic; listed,
# monitored, replaced and flushed; the kernel's netfilter selftests. The cheapest come first.
modprobe -q -a veth dummy br_netfilter vrf
own rules 120
own sets 90
own intervals 60
own objects 60
own maps 60
own nat 60
own netdev 60
own flowtable 60
own bridge 45
own churn 90
own errors 45

script net/netfilter nft_audit.sh 60
script net/netfilter nft_meta.sh 60
script net/netfilter conntrack_icmp_related.sh 60
script net/netfilter nft_conntrack_helper.sh 60
script net/netfilter nft_tproxy_tcp.sh 60
script net/netfilter nft_tproxy_udp.sh 60
script net/netfilter nft_synproxy.sh 60
script net/netfilter nft_zones_many.sh 60
script net/netfilter conntrack_vrf.sh 60
script net/netfilter rpath.sh 45
script net/netfilter bridge_brouter.sh 30
script net/netfilter nf_nat_edemux.sh 60
script net/netfilter conntrack_tcp_unreplied.sh 60
script net/netfilter nft_fib.sh 60
script net/netfilter nft_nat.sh 120
script net/netfilter nft_queue.sh 90
script net/netfilter nft_flowtable.sh 180
script net/netfilter nft_concat_range.sh 240 KSELFTEST_TIMEOUT=200
