# Ordinary use of net/ipv6: addresses, neighbours, routes, sockets of each kind, tunnels, multicast, fragments, segment
# routing, IPsec, a web server; then the kernel's net selftests. The cheapest come first.
modprobe -q -a veth dummy vrf macvlan ipvlan 8021q bridge vxlan geneve sit ip6_tunnel ip6_gre ip6_vti ila fou6 tun
own addresses 45
own routes 60
own neighbours 45
own sockets 60
own fragments 45
own multicast 45
own tunnels 90
own segments 60
own ipsec 60
own options 45
own web 60
own vrfs 45
own proc 20

script net fib-onlink-tests.sh 60
script net ip_defrag.sh 90
script net ndisc_unsolicited_na_test.sh 90
script net fib_rule_tests.sh 120
script net gre_gso.sh 60
script net ip6_gre_headroom.sh 40
script net ipv6_flowlabel.sh 40
script net cmsg_ipv6.sh 90
script net unicast_extensions.sh 60
script net fib_nexthop_nongw.sh 40
script net reuseport_addr_any.sh 30
script net udpgso.sh 60
script net traceroute.sh 90
script net rtnetlink.sh 120
script net vrf_strict_mode_test.sh 60
script net arp_ndisc_evict_nocarrier.sh 60
script net ioam6.sh 60
script net srv6_end_dt46_l3vpn_test.sh 90
script net srv6_end_dt6_l3vpn_test.sh 90
script net icmp_redirect.sh 120
script net vrf_route_leaking.sh 120
script net fib_tests.sh 200
script net fib_nexthops.sh 200
script net xfrm_policy.sh 100
script net pmtu.sh 200
