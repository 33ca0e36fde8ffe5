# The functions of the workload `nf_tables`.

# traffic: each protocol from the namespace a to b, through whatever rules are there.
traffic() {
	ip netns exec a bash -c '
		ping -q -c 3 -i 0.01 -w 1 192.0.2.2 &
		ping -q -c 3 -i 0.01 -w 1 2001:db8:1::2 &
		head -c 20000 /dev/zero | timeout 1 socat -u -b 1000 - UDP6:[2001:db8:1::2]:5202 &
		head -c 100000 /dev/zero | timeout 1 socat -u - TCP:192.0.2.2:5201 &
		echo x | timeout 1 socat -u - TCP6:[2001:db8:1::2]:5203
		wait' >/dev/null 2>&1
	return 0
}
serve() {
	ip netns exec b socat -u TCP-LISTEN:5201,fork,reuseaddr /dev/null >/dev/null 2>&1 &
	ip netns exec b socat -u UDP6-RECV:5202 /dev/null >/dev/null 2>&1 &
	sleep 0.3
}
# nfb: nft in the namespace b; what a kernel lacks is told, and the rest goes on.
nfb() { ip netns exec b nft "$@"; }

# load: the rule set read, in the namespace b. nft before 1.1 wants a semicolon before the brace that ends a line.
load() {
	sed -E '/^\t*(set|map|chain|counter|quota|limit|synproxy|secmark|flowtable|ct (helper|timeout|expectation)) /s/([^;{ ]) \}$/\1; }/' | nfb -f -
}

# each HEAD: every line read is a rule of its own, added to HEAD.
each() {
	local added=0
	while IFS= read -r rule; do
		[ -n "$rule" ] || continue
		if nfb add rule "$1 $rule"; then added=$((added + 1)); fi
	done
	[ $added -gt 0 ]
}

# Every expression in rules of a chain at input and output, then listed, traced, reset and deleted one by one.
rules() {
	pair a b
	serve
	load <<-'NFT'
		table inet t {
			chain in { type filter hook input priority 0; policy accept; }
			chain out { type filter hook output priority 0; policy accept; }
			chain pre { type filter hook prerouting priority raw; policy accept; }
			chain route { type route hook output priority mangle; policy accept; }
			chain other { counter return; }
		}
	NFT
	each "inet t pre" <<-'RULES'
		meta nftrace set 1
		udp dport 5209 notrack
		fib saddr . iif oif missing counter
		fib daddr type local counter
		rt ip nexthop 192.0.2.1 counter
		iifname "vb" ip protocol icmp meta mark set 0x7 counter
	RULES
	each "inet t in" <<-'RULES'
		counter packets 1 bytes 2
		ip saddr 192.0.2.0/24 ip daddr != 198.51.100.0/24 ip ttl >= 3 counter
		ip6 saddr 2001:db8:1::/64 ip6 hoplimit > 1 ip6 flowlabel < 9000 counter
		meta l4proto {icmp, ipv6-icmp} limit rate 400/second burst 5 packets counter
		limit rate over 10 mbytes/second counter
		tcp dport 5201 tcp flags & (syn|ack) == syn ct state new counter
		tcp dport 5201 tcp option maxseg size 1-1500 counter
		tcp dport 5201 tcp option sack-perm exists counter
		tcp flags syn tcp option maxseg size set 1200
		exthdr hbh exists counter
		ip option rr exists counter
		ct state {established, related} ct mark set 0x5 counter
		ct state vmap {established: jump other, new: jump other}
		ct status assured ct direction original ct zone 0 counter
		ct bytes > 10 ct packets > 1 ct avgpkt > 5 ct expiration > 1s counter
		ct label set 7
		ct count 3 counter
		udp dport 5202 udp length > 8 udp checksum != 0 counter
		icmp type echo-request icmp id != 0 icmp sequence < 50 counter
		icmpv6 type {echo-request, nd-neighbor-solicit} counter
		meta priority set 1:2
		meta skuid 0 counter
		meta length 20-2000 meta protocol ip meta nfproto ipv4 meta cpu < 4 counter
		meta time "2020-01-01 00:00" - "2090-01-01 00:00" counter
		meta day "Monday" hour "00:00"-"23:59" counter
		numgen inc mod 3 == 1 counter
		numgen random mod 5 < 3 counter
		jhash ip saddr . tcp dport mod 8 seed 0xbeef != 3 counter
		symhash mod 2 == 0 counter
		quota 500000 bytes counter
		quota over 4000 bytes counter
		log prefix "x" level debug
		log group 3 snaplen 40 queue-threshold 2
		socket transparent 1 counter
		socket mark 1 counter
		osf name "Linux" counter
		queue flags bypass to 9
		ip dscp set cs1
		ip6 dscp set af11
		@th,16,16 5201 counter
		@ih,0,8 0 counter
		tcp dport 5203 reject with tcp reset
		udp dport 5209 reject with icmpx type port-unreachable
		ip saddr & 0.0.0.1 == 0.0.0.1 meta mark set meta mark & 0xff
		ct mark set ct mark | 0x10
		ct mark set meta mark << 2
		ip daddr 192.0.2.2 ip saddr != {192.0.2.7, 192.0.2.8} goto other
	RULES
	each "inet t out" <<-'RULES'
		meta oifname "vb" oif "vb" meta skgid 0 counter
		rt mtu > 500 rt classid 0 counter
		rt ipsec missing counter
		ipsec out ip daddr 192.0.2.9 counter
		socket cgroupv2 level 0 "/" counter
		ct original ip saddr 192.0.2.1 ct reply ip daddr 192.0.2.1 counter
		tcp option maxseg size set rt mtu
		reset tcp option sack-perm
	RULES
	each "inet t route" <<-'RULES'
		meta mark set 3 ip dscp set cs2
	RULES
	timeout 3 ip netns exec b nft monitor trace >/tmp/trace 2>&1 &
	traffic
	ip netns exec b ping -q -c 2 -i 0.01 -w 1 192.0.2.1
	wait -n
	nfb -a list ruleset
	nfb -j list ruleset >/dev/null
	nfb reset counters
	nfb reset rules
	nfb -a list chain inet t in | sed -n 's/.*# handle \([0-9]*\)$/\1/p' | tail -n +2 | head -n 12 | while read -r handle; do
		nfb replace rule inet t in handle "$handle" counter accept || true
		nfb insert rule inet t in position "$handle" counter drop || true
		nfb delete rule inet t in handle "$handle"
	done
	traffic
	nfb rename chain inet t other another
	nfb flush chain inet t out
	nfb delete table inet t
	unpair a b
}

# Each set backend: hash with and without timeout, resizable, bitmap, interval trees, concatenated ranges, dynamic.
sets() {
	pair a b
	serve
	load <<-'NFT'
		table inet s {
			set hash4 { type ipv4_addr; size 128; elements = { 192.0.2.1, 192.0.2.3 } }
			set rhash { type ipv4_addr; flags timeout; timeout 10s; gc-interval 1s; }
			set port { type inet_service; elements = { 1-10, 5201, 5203 }; flags interval; }
			set bitmap { type inet_service; elements = { 5201, 5202 }; }
			set big { type ipv6_addr; elements = { 2001:db8:1::1, 2001:db8::9 } }
			set macs { type ether_addr . ipv4_addr; }
			set dyn { type ipv4_addr . inet_service; flags dynamic, timeout; timeout 5s; size 64; counter; }
			set meters { type ipv4_addr; flags dynamic; size 32; }
			set conns { type ipv4_addr; flags dynamic; size 32; }
			set marks { typeof meta mark; elements = { 1, 2 }; counter; comment "c" }
			set str { type ifname; elements = { "vb", "lo" } }
			set pipapo { type ipv4_addr . inet_service . ipv4_addr; flags interval; elements = { 192.0.2.0/24 . 5000-6000 . 192.0.2.2, 198.51.100.1-198.51.100.9 . 1 . 10.0.0.0/8 } }
			set pipapo6 { type ipv6_addr . inet_proto . inet_service; flags interval, timeout; timeout 1m; elements = { 2001:db8:1::/64 . tcp . 5000-5300 timeout 5s, 2001:db8:1::/64 . udp . 5202 } }
			chain in { type filter hook input priority 0;
				ip saddr @hash4 counter
				add @rhash { ip saddr timeout 2s }
				update @rhash { ip saddr timeout 3s }
				tcp dport @port counter
				udp dport @bitmap counter
				ip6 saddr @big counter
				iifname @str counter
				update @dyn { ip saddr . tcp dport counter }
				add @meters { ip saddr limit rate over 100/second burst 10 packets } counter
				add @conns { ip saddr ct count over 10 } counter
				ip saddr . tcp dport . ip daddr @pipapo counter
				ip6 saddr . meta l4proto . th dport @pipapo6 counter
				delete @dyn { ip saddr . tcp dport }
				meta mark @marks counter
			}
		}
	NFT
	traffic
	for i in $(seq 1 40); do echo "add element inet s hash4 { 10.0.0.$i }"; echo "add element inet s rhash { 10.0.1.$i timeout ${i}00ms }"
		echo "add element inet s pipapo { 10.1.$i.0/24 . $i-$((i * 50)) . 10.2.0.$i }"; echo "add element inet s port { $((6000 + i * 10))-$((6003 + i * 10)) }"
		echo "add element inet s macs { 02:00:00:00:00:$(printf %02x $i) . 10.0.0.$i }"; done | load
	traffic
	nfb list set inet s pipapo >/dev/null
	nfb get element inet s port '{ 6011 }'
	nfb get element inet s pipapo '{ 10.1.3.7 . 100 . 10.2.0.3 }'
	nfb reset set inet s dyn
	nfb reset element inet s marks '{ 1 }'
	for i in $(seq 1 2 40); do echo "delete element inet s hash4 { 10.0.0.$i }"; echo "delete element inet s pipapo { 10.1.$i.0/24 . $i-$((i * 50)) . 10.2.0.$i }"
		echo "delete element inet s port { $((6000 + i * 10))-$((6003 + i * 10)) }"; echo "delete element inet s rhash { 10.0.1.$i }"; done | load
	sleep 2
	nfb list ruleset >/dev/null
	nfb flush set inet s pipapo
	nfb flush set inet s rhash
	nfb flush set inet s port
	traffic
	nfb flush ruleset
	unpair a b
}

# Interval sets that are merged, split, and refused.
intervals() {
	pair a b
	load <<-'NFT'
		table ip i {
			set a { type ipv4_addr; flags interval; auto-merge; elements = { 10.0.0.0/8, 172.16.0.0-172.16.0.9 } }
			set t { type ipv4_addr; flags interval, timeout; gc-interval 1s; elements = { 10.0.0.0/24 timeout 1s, 10.0.1.0/24 } }
			map m { type ipv4_addr : verdict; flags interval; elements = { 192.0.2.0/25 : accept, 192.0.2.128/25 : drop } }
			map d { type ipv4_addr . inet_service : mark; flags interval; elements = { 192.0.2.0/24 . 1-9000 : 5 } }
			chain in { type filter hook input priority 0; ip saddr @a counter; ip saddr @t counter; meta mark set ip saddr . tcp dport map @d; ip saddr vmap @m }
		}
	NFT
	serve
	traffic
	for i in $(seq 0 60); do echo "add element ip i a { 10.$i.3.0/24, 11.0.$i.0-11.0.$i.77 }"; echo "add element ip i t { 12.$i.0.0/16 timeout 1s }"; done | load
	nfb add element ip i m '{ 192.0.2.5 : drop }'
	sleep 2
	nfb add element ip i t '{ 10.0.0.0/25 }'
	nfb delete element ip i a '{ 11.0.3.0-11.0.3.77 }'
	traffic
	nfb -o -c list ruleset >/dev/null
	nfb flush ruleset
	unpair a b
}

# Named objects, changed and reset; used by name and through maps.
objects() {
	pair a b
	serve
	load <<-'NFT'
		table inet o {
			counter c1 { packets 3 bytes 4 }
			counter c2 { }
			quota q1 { over 20 kbytes }
			limit l1 { rate 200/second burst 5 packets }
			ct helper ftp { type "ftp" protocol tcp; }
			ct timeout tmo { protocol tcp; l3proto ip; policy = { established: 100, close: 4 } }
			ct expectation exp { protocol tcp; dport 9876; timeout 5s; size 3; l3proto ip; }
			synproxy sp { mss 1460; wscale 7; timestamp sack-perm; }
			map cm { type inet_service : counter; elements = { 5201 : "c1", 5203 : "c2" } }
			map qm { type ipv4_addr : quota; elements = { 192.0.2.1 : "q1" } }
			chain in { type filter hook input priority 0;
				counter name "c1"
				quota name "q1"
				limit name "l1"
				counter name tcp dport map @cm
				quota name ip saddr map @qm
				tcp dport 21 ct helper set "ftp"
				tcp dport 9875 ct expectation set "exp"
			}
			chain pre { type filter hook prerouting priority 0; tcp dport 5201 ct timeout set "tmo" }
		}
	NFT
	# Not every kernel has labels.
	nfb add secmark inet o sm '{ "system_u:object_r:x:s0"; }'
	traffic
	nfb add quota inet o q1 over 40 kbytes
	nfb add limit inet o l1 rate 20/second
	nfb list counters
	nfb reset counters
	nfb reset quotas
	nfb list ct helpers table inet o
	traffic
	nfb -j list ruleset >/dev/null
	nfb flush chain inet o in
	nfb delete counter inet o c2
	nfb delete table inet o
	unpair a b
}

# Verdict and data maps, with chains that come and go.
maps() {
	pair a b
	serve
	load <<-'NFT'
		table ip m {
			chain x { counter }
			chain y { counter goto x }
			map v { type inet_service : verdict; elements = { 5201 : jump x, 5203 : goto y } }
			map vc { type ipv4_addr . inet_service : verdict; counter; elements = { 192.0.2.1 . 5201 : accept } }
			map mk { type ipv4_addr : mark; flags timeout; elements = { 192.0.2.1 timeout 5s : 7 } }
			map dynmap { type ipv4_addr : mark; flags dynamic, timeout; timeout 3s; size 16; }
			map ifm { type ifname : verdict; elements = { "vb" : jump x } }
			chain in { type filter hook input priority 0;
				meta mark set ip saddr map @mk
				update @dynmap { ip saddr : 0x9 }
				iifname vmap @ifm
				ip saddr . tcp dport vmap @vc
				tcp dport vmap @v
				tcp dport vmap { 1 : drop, 2-9 : jump x, 5201 : accept }
				ip saddr vmap { 10.0.0.0/8 : drop, 192.0.2.0/24 : accept }
			}
		}
	NFT
	traffic
	nfb add element ip m v '{ 80 : jump y, 443 : drop }'
	nfb delete element ip m v '{ 80 }'
	nfb list map ip m dynmap
	traffic
	for i in $(seq 1 20); do nfb "add chain ip m z$i; add rule ip m z$i counter; add element ip m v { $((7000 + i)) : jump z$i }"; done
	nfb flush map ip m v
	nfb flush chain ip m in
	for i in $(seq 1 20); do nfb delete chain ip m z$i; done
	nfb flush ruleset
	unpair a b
}

# NAT of each kind.
nat() {
	pair a b
	serve
	ip netns exec b sysctl -qw net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1
	load <<-'NFT'
		table inet n {
			map back { type ipv4_addr . inet_service : ipv4_addr . inet_service; elements = { 192.0.2.2 . 8001 : 192.0.2.2 . 5201 } }
			chain pre { type nat hook prerouting priority dstnat;
				tcp dport 8000 redirect to :5201
				dnat ip to ip daddr . tcp dport map @back
				meta nfproto ipv6 tcp dport 8000 redirect to :5201
				udp dport 8002 dnat ip6 to [2001:db8:1::2]:5202
				tcp dport 8003 dnat ip to 192.0.2.2:5201-5203
			}
			chain post { type nat hook postrouting priority srcnat;
				oifname "vb" meta nfproto ipv4 tcp dport 9 snat ip to 192.0.2.2-192.0.2.4:2000-3000 random,persistent
				oifname "vb" ip protocol icmp masquerade random
				oifname "vb" meta l4proto udp masquerade to :1024-65535
				meta nfproto ipv6 snat ip6 to 2001:db8:1::2
			}
			chain out { type nat hook output priority -100; tcp dport 8004 dnat ip to 192.0.2.1 }
		}
		table ip n4 {
			chain post { type nat hook postrouting priority 110; snat prefix to ip saddr map { 10.1.1.0/24 : 192.0.3.0/24 }; }
		}
	NFT
	for port in 8000 8001 8003; do echo x | ip netns exec a timeout 1 socat -u - TCP:192.0.2.2:$port; done
	echo x | ip netns exec a timeout 1 socat -u - TCP6:[2001:db8:1::2]:8000
	echo x | ip netns exec a socat -u - UDP6:[2001:db8:1::2]:8002
	ip netns exec b ping -q -c 2 -i 0.01 -w 1 192.0.2.1
	ip netns exec b ping -q -c 2 -i 0.01 -w 1 2001:db8:1::1
	echo x | ip netns exec b timeout 1 socat -u - UDP:192.0.2.1:9
	traffic
	nfb list ruleset
	ip netns exec b conntrack -L
	nfb flush ruleset
	unpair a b
}

# Chains of devices: ingress, egress, with forwarding and duplicates; the device goes while the chain is there.
netdev() {
	pair a b
	serve
	ip -n b link add d0 type dummy
	ip -n b link set d0 up
	load <<-'NFT'
		table netdev d {
			set s { type ether_addr; elements = { 02:00:00:00:00:01 } }
			chain i { type filter hook ingress devices = { vb, d0 } priority 0; policy accept;
				ether saddr @s counter
				ether type ip counter
				ip protocol icmp dup to "d0" counter
				vlan id 5 counter
				ip saddr 192.0.2.9 fwd to "d0"
				meta mark set 4
			}
			chain e { type filter hook egress device "vb" priority 0; ip daddr 192.0.2.1 counter; ip6 nexthdr icmpv6 dup to "d0" }
		}
		table inet d {
			chain i { type filter hook ingress device "vb" priority 5; ip6 daddr 2001:db8:1::2 counter; tcp dport 5203 drop }
		}
		table arp f {
			chain in { type filter hook input priority 0; arp operation request counter; arp saddr ip 192.0.2.1 counter }
		}
		table ip p {
			chain in { type filter hook input priority 0; ip protocol icmp dup to 192.0.2.1 device "vb" }
		}
		table ip6 p {
			chain in { type filter hook input priority 0; ip6 nexthdr icmpv6 dup to 2001:db8:1::1 device "vb" }
		}
	NFT
	for rule in 'fib daddr type unicast counter' 'ip protocol udp reject' 'fwd ip to 192.0.2.1 device "d0"'; do nfb add rule netdev d i "$rule"; done
	ip -n a neigh flush all
	traffic
	nfb add chain netdev d i '{ devices = { lo } ; }'
	nfb list ruleset
	ip -n b link del d0
	traffic
	nfb flush ruleset
	unpair a b
}

# A flow table between two pairs of namespaces.
flowtable() {
	ip netns add r
	for side in a b; do
		ip netns add $side
		ip link add v$side netns $side type veth peer name r$side netns r
		ip -n $side link set v$side up
		ip -n r link set r$side up
	done
	ip -n a addr add 10.0.1.1/24 dev va
	ip -n r addr add 10.0.1.2/24 dev ra
	ip -n b addr add 10.0.2.1/24 dev vb
	ip -n r addr add 10.0.2.2/24 dev rb
	ip -n a addr add 2001:db8:a::1/64 dev va nodad
	ip -n r addr add 2001:db8:a::2/64 dev ra nodad
	ip -n b addr add 2001:db8:b::1/64 dev vb nodad
	ip -n r addr add 2001:db8:b::2/64 dev rb nodad
	ip -n a route add default via 10.0.1.2
	ip -n b route add default via 10.0.2.2
	ip -n a route add default via 2001:db8:a::2
	ip -n b route add default via 2001:db8:b::2
	ip netns exec r sysctl -qw net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1
	ip netns exec r nft -f - <<-'NFT'
		table inet f {
			flowtable ft { hook ingress priority 0; devices = { ra, rb }; counter; }
			chain forwarding { type filter hook forward priority 0; meta l4proto {tcp, udp} flow add @ft; counter }
			chain post { type nat hook postrouting priority 100; oifname "rb" ip protocol tcp masquerade }
		}
	NFT
	ip netns exec b iperf3 -s -D >/dev/null 2>&1
	sleep 0.5
	ip netns exec a timeout 10 iperf3 -c 10.0.2.1 -n 2M
	ip netns exec a timeout 10 iperf3 -c 2001:db8:b::1 -n 1M
	ip netns exec a timeout 10 iperf3 -u -c 10.0.2.1 -n 300K -b 5M
	ip netns exec r nft list flowtables
	ip netns exec r conntrack -L
	ip netns exec r nft add flowtable inet f ft2 '{ hook ingress priority 5; devices = { lo }; }'
	ip netns exec r nft delete flowtable inet f ft2
	ip netns exec r nft flush ruleset
	unpair a b r
}

# The bridge family.
bridge() {
	pair a b
	ip -n b link add br0 type bridge
	ip -n b link set vb master br0
	ip -n b link set br0 up
	ip -n b addr add 192.0.2.3/24 dev br0
	load <<-'NFT'
		table bridge b {
			chain in { type filter hook input priority 0; ether type ip counter; meta ibrname "br0" counter; ip protocol icmp ct state new counter }
			chain forwarding { type filter hook forward priority 0; ether daddr ff:ff:ff:ff:ff:ff counter; ether type arp drop }
		}
	NFT
	nfb add rule bridge b in 'udp dport 5209 reject'
		ip netns exec a ping -q -c 3 -i 0.05 -w 1 192.0.2.3
	echo x | ip netns exec a socat -u - UDP:192.0.2.3:5209
	nfb list ruleset
	nfb flush ruleset
	unpair a b
}

# Whole rule sets replaced in one transaction while packets go through them; namespaces deleted with their rules.
churn() {
	pair a b
	serve
	(for _ in $(seq 1 6); do traffic; done) &
	for i in $(seq 1 25); do
		load <<-NFT
			table inet c
			delete table inet c
			table inet c {
				set s$i { type ipv4_addr; flags interval; elements = { 10.0.0.0/24, 192.0.2.0/28 } }
				set d { type ipv4_addr; flags dynamic, timeout; timeout 1s; size 99; }
				chain l { ip saddr @s$i counter accept }
				chain in { type filter hook input priority $i; update @d { ip saddr }; jump l; ct state vmap { established : accept, new : accept, invalid : drop } }
			}
		NFT
	done
	wait
	nfb add table inet dormant '{ flags dormant; chain c { type filter hook input priority 0; counter; }; }'
	nfb add table inet dormant '{ flags 0; }'
	nfb add table inet dormant
	nfb list tables
	nfb list chains
	nfb list ruleset >/dev/null
	nfb add table inet owned '{ flags owner; }'
	unpair a b
	iptables-nft -A INPUT -p tcp --dport 99 -m comment --comment x -j ACCEPT
	iptables-nft -t nat -A POSTROUTING -o lo -j MASQUERADE
	ip6tables-nft -A INPUT -p udp -m limit --limit 3/sec -j DROP
	iptables-nft -L -v -n
	iptables-nft -F
	nft flush ruleset
}

# Transactions that the kernel refuses in the middle, and undoes.
errors() {
	pair a b
	nfb 'add table ip e; add chain ip e c { type filter hook input priority 0; }; add set ip e s { type ipv4_addr; size 3; }; add counter ip e k'
	nfb 'add element ip e s { 1.1.1.1, 1.1.1.2, 1.1.1.3, 1.1.1.4 }'
	nfb 'add rule ip e c counter; add rule ip e nowhere counter'
	nfb 'add chain ip e d; add rule ip e c jump d; delete chain ip e d'
	nfb 'add chain ip e l1; add chain ip e l2; add rule ip e l1 jump l2; add rule ip e l2 jump l1'
	nfb 'add element ip e s { 1.1.1.1 }; create element ip e s { 1.1.1.1 }'
	nfb 'delete rule ip e c handle 4711'
	nfb 'delete set ip e s; add rule ip e c ip saddr @s'
	nfb 'add counter ip e k2; create counter ip e k'
	nfb 'add table ip gone; delete table ip gone; delete table ip gone'
	nfb 'add flowtable ip e f { hook ingress priority 0; devices = { nowhere }; }'
	nfb 'add set ip e v { type ipv4_addr; flags interval; elements = { 10.0.0.0/8, 10.1.0.0/16 } }'
	nfb 'add map ip e m { type ipv4_addr : verdict; }; add element ip e m { 1.1.1.1 : jump c }'
	nfb 'add rule ip e c ct helper set "none"'
	nfb -c 'add rule ip e c counter drop'
	nfb list ruleset
	nfb flush ruleset
	unpair a b
	return 0
}
