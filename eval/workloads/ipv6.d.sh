# The functions of the workload `ipv6`.

in_a() { ip netns exec a "$@"; }
in_b() { ip netns exec b "$@"; }
ping6a() { in_a ping -6 -q -c 3 -i 0.02 -w 2 "$@"; }

# Addresses of each kind: static with and without duplicate detection, temporary, by router advertisement, tentative,
# duplicate, peer, anycast by forwarding; devices that come, go and change their MTU.
addresses() {
	pair a b
	in_a sysctl -qw net.ipv6.conf.va.use_tempaddr=2 net.ipv6.conf.va.accept_ra=2 net.ipv6.conf.all.optimistic_dad=1
	in_b sysctl -qw net.ipv6.conf.all.forwarding=1 net.ipv6.conf.vb.proxy_ndp=1
	ip -n a -6 addr add 2001:db8:5::1/64 dev va valid_lft 20 preferred_lft 10
	ip -n a -6 addr change 2001:db8:5::1/64 dev va valid_lft 30 preferred_lft 5
	ip -n b -6 addr add 2001:db8:5::1/64 dev vb
	ip -n a -6 addr add 2001:db8:6::1 peer 2001:db8:6::2/128 dev va
	ip -n a -6 addr add 2001:db8:7::1/64 dev va home nodad mngtmpaddr
	ip -n a -6 addr add 2001:db8:8::1/64 dev va noprefixroute metric 500
	in_a python3 - <<-'PY'
		import socket, struct
		# An anycast group, joined and left.
		s = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
		m = socket.inet_pton(socket.AF_INET6, '2001:db8:1::77') + struct.pack('@I', 0)
		for option in (27, 28):
		    try: s.setsockopt(41, option, m)
		    except OSError as e: print(e)
	PY
	# A router advertisement with prefix, MTU and route information, made by hand.
	in_b python3 - <<-'PY'
		import socket, struct, time
		s = socket.socket(socket.AF_INET6, socket.SOCK_RAW, 58)
		s.setsockopt(41, socket.IPV6_MULTICAST_HOPS, 255)
		prefix = lambda p, l, flags: struct.pack('!BBBBIII', 3, 4, l, flags, 30, 20, 0) + socket.inet_pton(socket.AF_INET6, p)
		route = struct.pack('!BBBBI', 24, 2, 48, 0x08, 30) + socket.inet_pton(socket.AF_INET6, '2001:db8:99::')[:8]
		dns = struct.pack('!BBHI', 25, 3, 0, 30) + socket.inet_pton(socket.AF_INET6, '2001:db8:1::2')
		ra = struct.pack('!BBHBBHII', 134, 0, 0, 64, 0x40, 30, 1000, 500) + prefix('2001:db8:a::', 64, 0xc0) + prefix('2001:db8:b::', 60, 0x80) + struct.pack('!BBHI', 5, 1, 0, 1400) + route + dns + struct.pack('!BB6s', 1, 1, b'\2\0\0\0\0\1')
		index = socket.if_nametoindex('vb')
		for _ in range(3):
		    s.sendto(ra, ('ff02::1', 0, 0, index)); time.sleep(0.3)
		s.sendto(ra[:6] + b'\0\0' + ra[8:], ('ff02::1', 0, 0, index))
	PY
	sleep 2
	ip -n a -6 addr show dev va
	ip -n a -6 route show
	ip -n a link set va mtu 1300
	ip -n a link set va mtu 1500
	in_a sysctl -qw net.ipv6.conf.va.disable_ipv6=1
	in_a sysctl -qw net.ipv6.conf.va.disable_ipv6=0
	in_a sysctl -qw net.ipv6.conf.va.addr_gen_mode=1 net.ipv6.conf.va.forwarding=1 net.ipv6.conf.va.accept_dad=0
	ip -n a link set va down
	ip -n a link set va up
	ip -n a -6 addr flush dev va
	ip -n a token list
	ip -n a addrlabel add prefix 2001:db8::/32 label 99
	ip -n a addrlabel list
	ip -n a addrlabel del prefix 2001:db8::/32 label 99
	ip -n a link del va
	unpair a b
}

# Routes of each type, multipath, nexthop objects, rules, subtrees, metrics, exceptions, expiry, dumps.
routes() {
	pair a b
	local r='ip -n a -6 route'
	for i in $(seq 1 60); do echo "route add 2001:db8:$((i + 100))::/48 via 2001:db8:1::2 metric $i"; done | ip -n a -6 -batch -
	$r add 2001:db8:2::/64 via 2001:db8:1::2 mtu lock 1300 advmss 1200 hoplimit 9 initcwnd 3
	$r add 2001:db8:3::/64 nexthop via 2001:db8:1::2 weight 3 nexthop via 2001:db8:1::3 dev va
	$r append 2001:db8:3::/64 via 2001:db8:1::4
	$r add blackhole 2001:db8:4::/64
	$r add unreachable 2001:db8:5::/64
	$r add prohibit 2001:db8:6::/64
	$r add throw 2001:db8:7::/64 table 10
	$r add 2001:db8:8::/64 from 2001:db8:1::/64 via 2001:db8:1::2
	$r add 2001:db8:9::/64 dev va expires 2
	$r add 2001:db8:b::1 via fe80::1 dev va onlink pref high
	ip -n a -6 rule add from 2001:db8:1::/64 table 10 priority 90
	ip -n a -6 rule add fwmark 3/0xf ipproto udp dport 53 uidrange 0-9 table 11
	ip -n a -6 rule add iif va to 2001:db8:3::/64 suppress_prefixlength 0 table 12
	$r add 2001:db8:c::/64 via 2001:db8:1::2 table 10
	ip -n a nexthop add id 1 via 2001:db8:1::2 dev va
	ip -n a nexthop add id 2 via 2001:db8:1::3 dev va
	ip -n a nexthop add id 3 group 1,3/2 
	ip -n a nexthop add id 4 group 1/2 type resilient buckets 8 idle_timer 1
	ip -n a nexthop add id 5 blackhole
	$r add 2001:db8:d::/64 nhid 1
	$r add 2001:db8:e::/64 nhid 3
	$r add 2001:db8:e::/64 nhid 4
	ip -n a nexthop replace id 1 via 2001:db8:1::9 dev va
	for address in 2001:db8:2::1 2001:db8:3::1 2001:db8:4::1 2001:db8:5::1 2001:db8:6::1 2001:db8:8::1 2001:db8:c::1 2001:db8:d::1 2001:db8:e::1; do
		$r get $address
		in_a ping -6 -q -c 1 -w 1 -W 0.2 $address
	done
	in_a sysctl -qw net.ipv6.fib_multipath_hash_policy=1
	in_a sysctl -qw net.ipv6.fib_multipath_hash_policy=3
	$r get 2001:db8:3::5 ipproto tcp sport 5 dport 6
	$r replace 2001:db8:2::/64 via 2001:db8:1::3
	$r change 2001:db8:2::/64 via 2001:db8:1::2
	sleep 3
	$r show table all | wc -l
	$r show cache
	in_a sysctl -qw net.ipv6.route.flush=1
	ip -n a nexthop flush
	ip -n a -6 rule flush
	in_a cat /proc/net/ipv6_route /proc/net/rt6_stats | wc -l
	in_b sysctl -qw net.ipv6.conf.all.forwarding=1
	ping6a 2001:db8:101::1
	ip -n a link set va down
	$r flush table all
	unpair a b
}

# Neighbours: resolution, failure, proxies, states, unsolicited advertisements, redirects, many of them.
neighbours() {
	pair a b
	ping6a 2001:db8:1::2
	ping6a fe80::1%va
	in_a ndisc6 -q 2001:db8:1::2 va
	in_a rdisc6 -1 -w 500 va
	ip -n b -6 neigh add proxy 2001:db8:1::50 dev vb
	in_b sysctl -qw net.ipv6.conf.vb.proxy_ndp=1 net.ipv6.conf.all.forwarding=1 net.ipv6.conf.vb.ndisc_notify=1
	ping6a 2001:db8:1::50
	for i in $(seq 1 30); do in_a ping -6 -q -c 1 -W 0.05 -w 1 2001:db8:1::$((i + 256)) & done
	wait
	for state in permanent noarp reachable stale probe delay failed; do ip -n a -6 neigh replace 2001:db8:1::9 lladdr 02:00:00:00:00:09 nud $state dev va; done
	ip -n a -6 neigh show
	in_a sysctl -qw net.ipv6.neigh.va.base_reachable_time_ms=500 net.ipv6.neigh.va.gc_stale_time=1
	sleep 1
	ping6a 2001:db8:1::2
	ip -n b link set vb address 02:00:00:00:00:77
	ping6a 2001:db8:1::2
	ip -n a -6 neigh flush all
	ip -n b -6 neigh del proxy 2001:db8:1::50 dev vb
	unpair a b
}

# Sockets: TCP, UDP, raw, ping, packet; options, ancillary data, mapped addresses, connect and disconnect, errors.
sockets() {
	pair a b
	in_a sysctl -qw net.ipv4.ping_group_range="0 2147483647" net.ipv4.tcp_fastopen=1
	in_b iperf3 -s -D >/dev/null 2>&1
	in_b python3 - <<-'PY' &
		import socket, threading
		def tcp():
		    s = socket.socket(socket.AF_INET6, socket.SOCK_STREAM); s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
		    s.setsockopt(socket.IPPROTO_TCP, 23, 16); s.bind(('::', 7000)); s.listen(8)
		    while True:
		        c, _ = s.accept(); c.sendall(c.recv(9000)); c.close()
		def udp():
		    s = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
		    for option in (49, 51, 53, 54, 55, 57, 59, 66, 70, 72): 
		        try: s.setsockopt(41, option, 1)
		        except OSError: pass
		    s.bind(('::', 7001))
		    while True:
		        data, ancillary, flags, who = s.recvmsg(9000, 500); s.sendto(data, who)
		threading.Thread(target=tcp, daemon=True).start(); udp()
	PY
	sleep 1
	in_a timeout 40 python3 - <<-'PY'
		import socket, struct
		B = '2001:db8:1::2'
		def trial(f):
		    try: f()
		    except (OSError, ValueError) as e: print(f.__name__, e)
		def tcp():
		    for kind in (socket.AF_INET6, socket.AF_INET):
		        c = socket.socket(kind, socket.SOCK_STREAM); c.settimeout(2)
		        c.connect((B if kind == socket.AF_INET6 else '192.0.2.2', 7000)); c.sendall(b'x' * 3000); c.recv(9000); c.close()
		    c = socket.socket(socket.AF_INET6, socket.SOCK_STREAM); c.settimeout(2); c.connect(('::ffff:192.0.2.2', 7000)); c.sendall(b'y'); c.recv(9); c.close()
		    c = socket.socket(socket.AF_INET6, socket.SOCK_STREAM); c.settimeout(2)
		    c.sendto(b'fast open', 0x20000000, (B, 7000)); c.close()
		def refused():
		    c = socket.socket(socket.AF_INET6, socket.SOCK_STREAM); c.settimeout(1); c.connect((B, 7999))
		def udp():
		    c = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM); c.settimeout(1)
		    c.sendto(b'a', (B, 7001)); c.recv(99)
		    c.connect((B, 7001)); c.send(b'b' * 1200); c.recv(9000)
		    c.setsockopt(41, socket.IPV6_RECVERR if hasattr(socket, 'IPV6_RECVERR') else 25, 1)
		    c.connect((B, 7998)); c.send(b'c')
		    try: c.recv(9)
		    except OSError as e: print('expected', e)
		    try: print(c.recvmsg(99, 500, 0x2000))
		    except OSError as e: print(e)
		def ancillary():
		    c = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM); c.settimeout(1)
		    info = socket.inet_pton(socket.AF_INET6, '2001:db8:1::1') + struct.pack('@I', socket.if_nametoindex('va'))
		    hop, tclass, dont = struct.pack('@i', 9), struct.pack('@i', 0x28), struct.pack('@i', 1)
		    pad = bytes([0, 0, 1, 4, 0, 0, 0, 0])
		    route = bytes([0, 2, 2, 1, 0, 0, 0, 0]) + socket.inet_pton(socket.AF_INET6, B)
		    for data in ([(41, 50, info)], [(41, 52, hop)], [(41, 67, tclass)], [(41, 62, dont)], [(41, 54, pad)], [(41, 59, pad)], [(41, 55, pad)], [(41, 57, route)]):
		        try: c.sendmsg([b'ancillary'], data, 0, (B, 7001)); c.recv(99)
		        except OSError as e: print(data[0][1], e)
		def options():
		    for kind, protocol in ((socket.SOCK_STREAM, 0), (socket.SOCK_DGRAM, 0), (socket.SOCK_RAW, 58), (socket.SOCK_DGRAM, 58)):
		        c = socket.socket(socket.AF_INET6, kind, protocol)
		        for option in (1, 2, 7, 8, 16, 17, 18, 19, 20, 21, 22, 23, 24, 25, 26, 29, 33, 48, 49, 51, 53, 56, 58, 60, 61, 62, 64, 66, 67, 70, 72, 73, 74, 75, 76, 77, 78, 80):
		            for value in (1, 0):
		                try: c.setsockopt(41, option, value)
		                except OSError: pass
		            try: c.getsockopt(41, option, 64)
		            except OSError: pass
		        hops = bytes([0, 0, 1, 4, 0, 0, 0, 0])
		        for option in (54, 55, 59):
		            for value in (hops, b''):
		                try: c.setsockopt(41, option, value)
		                except OSError: pass
		def addrform():
		    c = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM); c.connect(('::ffff:192.0.2.2', 7001)); c.setsockopt(41, 1, socket.AF_INET); c.send(b'x')
		def flow():
		    c = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM); c.settimeout(1)
		    request = lambda action, share, flags, label: socket.inet_pton(socket.AF_INET6, B) + struct.pack('!I', label) + struct.pack('@BBHHHI', action, share, flags, 6, 0, 0)
		    c.setsockopt(41, 32, request(0, 1, 1, 0x12345)); c.setsockopt(41, 33, 1)
		    c.sendto(b'labelled', (B, 7001, 0x12345, 0)); c.recv(99)
		    c.setsockopt(41, 32, request(2, 1, 0, 0x12345)); c.setsockopt(41, 32, request(1, 1, 0, 0x12345))
		def raw():
		    c = socket.socket(socket.AF_INET6, socket.SOCK_RAW, 58); c.settimeout(1)
		    c.setsockopt(58, 1, bytes(32)); c.setsockopt(255, 7, 2)
		    c.sendto(bytes([128, 0, 0, 0, 1, 2, 3, 4]), (B, 0)); c.recv(99)
		    h = socket.socket(socket.AF_INET6, socket.SOCK_RAW, 255)
		    h.setsockopt(41, 36, 1)
		    h.sendto(struct.pack('!IHBB', 6 << 28, 8, 59, 9) + socket.inet_pton(socket.AF_INET6, '2001:db8:1::1') + socket.inet_pton(socket.AF_INET6, B) + b'nonext..', (B, 0))
		    p = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM, 58); p.settimeout(1); p.sendto(bytes([128, 0, 0, 0, 0, 1, 0, 1]), (B, 0)); p.recv(99)
		def lite():
		    c = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM, 136); c.sendto(b'lite', (B, 7001))
		def cork():
		    c = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM); c.settimeout(1); c.connect((B, 7001))
		    c.setsockopt(socket.IPPROTO_UDP, 1, 1); c.send(b'1' * 900); c.send(b'2' * 900); c.setsockopt(socket.IPPROTO_UDP, 1, 0); c.recv(9000)
		    c.setsockopt(socket.IPPROTO_UDP, 103, 500); c.send(b'3' * 2000); c.recv(9000)
		def splice():
		    import os
		    c = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM); c.connect((B, 7001))
		    f = open('/etc/services', 'rb'); os.sendfile(c.fileno(), f.fileno(), 0, 1000)
		    c = socket.socket(socket.AF_INET6, socket.SOCK_STREAM); c.connect((B, 7000)); os.sendfile(c.fileno(), f.fileno(), 0, 2000)
		for f in (tcp, refused, udp, ancillary, options, addrform, flow, raw, lite, cork, splice): trial(f)
	PY
	in_a timeout 8 iperf3 -c 2001:db8:1::2 -n 3M
	in_a timeout 8 iperf3 -u -c 2001:db8:1::2 -n 500K -b 20M -l 1400
	in_a timeout 8 iperf3 -c 2001:db8:1::2 -n 1M -R -P 3
	in_a ss -6 -n -a -i | head -n 5
	unpair a b
}

# Fragments: sent, reassembled, out of order, overlapping, expired; too large packets and path MTU.
fragments() {
	pair a b
	for size in 1453 3000 20000 60000; do ping6a -s $size 2001:db8:1::2; done
	in_b sysctl -qw net.ipv6.ip6frag_time=1
	ip -n b -6 route replace 2001:db8:1::/64 dev vb mtu 1300
	ping6a -s 2000 2001:db8:1::2
	in_a tracepath -6 -n -m 3 2001:db8:1::2
	in_a timeout 30 python3 - <<-'PY'
		from scapy.all import *
		conf.verb = 0
		import socket
		mac = lambda: open('/sys/class/net/va/address').read().strip()
		dst = Ether(dst='ff:ff:ff:ff:ff:ff', src=mac())
		base = IPv6(src='2001:db8:1::1', dst='2001:db8:1::2')
		data = bytes(ICMPv6EchoRequest(id=5, data=b'z' * 1600, cksum=0))
		send = lambda p: sendp(dst / p, iface='va')
		f = lambda o, m, i, d, nh=58: base / IPv6ExtHdrFragment(nh=nh, offset=o // 8, m=m, id=i) / Raw(d)
		send(f(800, 0, 1, data[800:])); send(f(0, 1, 1, data[:800]))                       # out of order
		send(f(0, 1, 2, data[:800])); send(f(400, 0, 2, data[400:]))                       # overlapping
		send(f(0, 1, 3, data[:800]))                                                       # expires
		send(f(0, 1, 4, data[:801]))                                                       # not a multiple of 8
		send(f(65528, 0, 5, data[:100]))                                                   # too long
		send(f(0, 0, 6, data[:100]))                                                       # atomic
		send(base / IPv6ExtHdrHopByHop(options=[PadN(optdata=b'1234'), Jumbo(jumboplen=70000)]) / UDP(dport=7) / b'x')
		send(base / IPv6ExtHdrHopByHop(options=[RouterAlert(), HBHOptUnknown(otype=0xc3, optdata=b'12')]) / UDP(dport=7) / b'x')
		send(base / IPv6ExtHdrDestOpt(options=[HAO(hoa='2001:db8:1::9')]) / UDP(dport=7) / b'x')
		send(base / IPv6ExtHdrRouting(addresses=['2001:db8:1::1'], type=0) / UDP(dport=7) / b'x')
		send(base / IPv6ExtHdrRouting(addresses=['2001:db8:1::1'], type=2) / UDP(dport=7) / b'x')
		send(base / ICMPv6PacketTooBig(mtu=1280) / IPv6(src='2001:db8:1::2', dst='2001:db8:1::1') / UDP(sport=7001, dport=9) / b'x')
		send(base / ICMPv6DestUnreach(code=4) / IPv6(src='2001:db8:1::2', dst='2001:db8:1::1') / UDP(sport=7001, dport=9) / b'x')
		send(base / ICMPv6TimeExceeded() / IPv6(src='2001:db8:1::2', dst='2001:db8:1::1') / TCP(sport=7000, dport=9))
		send(base / ICMPv6ParamProblem() / IPv6(src='2001:db8:1::2', dst='2001:db8:1::1') / TCP(sport=7000, dport=9))
		send(IPv6(src='fe80::1', dst='2001:db8:1::2', hlim=255) / ICMPv6ND_Redirect(tgt='fe80::2', dst='2001:db8:1::1') / ICMPv6NDOptDstLLAddr(lladdr='02:00:00:00:00:01'))
		send(base / ICMPv6NIQueryNOOP()); send(base / ICMPv6EchoRequest() / (b'q' * 50)); send(base / IPv6(nh=59)); send(IPv6(src='::', dst='ff02::1', hlim=255) / ICMPv6ND_NS(tgt='2001:db8:1::2'))
		send(IPv6(version=5, src='2001:db8:1::1', dst='2001:db8:1::2') / b'x'); send(IPv6(src='ff02::1', dst='2001:db8:1::2') / UDP(dport=1))
	PY
	sleep 2
	in_b cat /proc/net/snmp6 | grep -c .
	unpair a b
}

# Multicast: listeners of both versions with sources, queries, routing daemons' interface.
multicast() {
	pair a b
	in_b sysctl -qw net.ipv6.conf.all.forwarding=1
	in_a timeout 20 python3 - <<-'PY' &
		import socket, struct, time
		index = socket.if_nametoindex('va')
		group = lambda g: struct.pack('@I4xHHI', index, socket.AF_INET6, 0, 0) + socket.inet_pton(socket.AF_INET6, g) + struct.pack('@I', 0) + bytes(100)
		def trial(f, *a):
		    try: f(*a)
		    except OSError as e: print(e)
		s = [socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) for _ in range(3)]
		for i, c in enumerate(s):
		    c.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1); c.bind(('::', 7100))
		    trial(c.setsockopt, 41, 20, socket.inet_pton(socket.AF_INET6, 'ff15::%d' % (i + 1)) + struct.pack('@I', index))
		    trial(c.setsockopt, 41, 42, group('ff15::9')[:136])
		source = lambda g, a: group(g)[:136] + group(a)[8:136]
		for option in (43, 44, 46, 47, 46):
		    trial(s[0].setsockopt, 41, option, source('ff15::9' if option in (43, 44) else 'ff35::1', '2001:db8:1::2'))
		time.sleep(3)
		for i, c in enumerate(s): trial(c.setsockopt, 41, 21, socket.inet_pton(socket.AF_INET6, 'ff15::%d' % (i + 1)) + struct.pack('@I', index)); c.close()
	PY
	sleep 1
	in_b timeout 15 python3 - <<-'PY'
		import socket, struct, time
		index = socket.if_nametoindex('vb')
		s = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM); s.setsockopt(41, 17, index); s.setsockopt(41, 18, 3)
		for g in ('ff15::1', 'ff15::9', 'ff02::1'): s.sendto(b'multicast', (g, 7100, 0, index))
		r = socket.socket(socket.AF_INET6, socket.SOCK_RAW, 58); r.setsockopt(41, 18, 1)
		r.setsockopt(41, 54, bytes([0, 0, 5, 2, 0, 0, 1, 0]))
		for body in (bytes(16), socket.inet_pton(socket.AF_INET6, 'ff15::1')):
		    r.sendto(struct.pack('!BBHHH', 130, 0, 0, 500, 0) + body, ('ff02::1', 0, 0, index))
		    r.sendto(struct.pack('!BBHHH', 130, 0, 0, 500, 0) + body + struct.pack('!BBH', 2, 5, 0), ('ff02::1', 0, 0, index))
		    time.sleep(0.4)
		# The interface of a routing daemon: two interfaces, a route, packets that have none.
		m = socket.socket(socket.AF_INET6, socket.SOCK_RAW, 58)
		try:
		    m.setsockopt(41, 200, 1)
		    m.setsockopt(41, 202, struct.pack('@HBBHI', 0, 0, 1, index, 0)[:12].ljust(12, b'\0'))
		    m.setsockopt(41, 202, struct.pack('@HBBHI', 1, 0, 1, socket.if_nametoindex('lo'), 0)[:12].ljust(12, b'\0'))
		    address = lambda a: struct.pack('@HHI', socket.AF_INET6, 0, 0) + socket.inet_pton(socket.AF_INET6, a) + bytes(4)
		    m.setsockopt(41, 204, address('2001:db8:1::1') + address('ff15::33') + struct.pack('@H', 0).ljust(4, b'\0') + struct.pack('@I', 2) + bytes(28))
		    time.sleep(1)
		    m.setsockopt(41, 205, address('2001:db8:1::1') + address('ff15::33') + bytes(36))
		    m.setsockopt(41, 201, 0)
		except OSError as e: print(e)
	PY
	in_a ping -6 -q -c 2 -i 0.1 -w 1 -I va ff15::33
	in_a ping -6 -q -c 2 -i 0.1 -w 1 -I va ff02::1
	in_a sysctl -qw net.ipv6.conf.va.force_mld_version=1
	wait %1
	in_a cat /proc/net/igmp6 /proc/net/mcfilter6 /proc/net/anycast6 | wc -l
	unpair a b
}

# Tunnels over IPv6 and of IPv6, each with traffic, changed and deleted.
tunnels() {
	pair a b
	local local=2001:db8:1::1 remote=2001:db8:1::2
	while IFS='|' read -r name kind extra change; do
		[ -n "$name" ] || continue
		case $kind in
		sit | isatap | gre) l=192.0.2.1 r=192.0.2.2 ;;
		*) l=$local r=$remote ;;
		esac
		# shellcheck disable=SC2086 # lists of words
		ip -n a link add $name type $kind local $l remote $r $extra || continue
		# shellcheck disable=SC2086
		ip -n b link add $name type $kind local $r remote $l $extra
		ip -n a addr add 2001:db8:77::1/64 dev $name nodad
		ip -n b addr add 2001:db8:77::2/64 dev $name nodad
		ip -n a addr add 10.7.0.1/24 dev $name
		ip -n b addr add 10.7.0.2/24 dev $name
		ip -n a link set $name up
		ip -n b link set $name up
		ping6a 2001:db8:77::2
		ping6a -s 3000 2001:db8:77::2
		in_a ping -q -c 2 -i 0.02 -w 1 10.7.0.2
		# shellcheck disable=SC2086
		[ -z "$change" ] || ip -n a link set $name type $kind $change
		ip -n a -d link show $name
		ping6a 2001:db8:77::2
		ip -n a link del $name
		ip -n b link del $name
	done <<-LIST
		t1|ip6tnl|mode ip6ip6|hoplimit 9 tclass 0x20
		t2|ip6tnl|mode any encaplimit none|encaplimit 3
		t3|ip6tnl|mode ipip6|
		t4|ip6gre|key 5 csum seq|hoplimit 33
		t5|ip6gretap|key 6|
		t6|ip6erspan|erspan_ver 1 key 7 seq erspan 9|
		t7|vti6|key 9|
		t8|sit|ttl 64|ttl 33
		t9|gre|ttl 64|
		t10|vxlan|id 5 dstport 4789 udp6zerocsumrx|
	LIST
	ip -n a link add ext type ip6tnl external
	ip -n a link add extg type ip6gre external
	ip -n a link set ext up
	ip -n a -6 route add 2001:db8:88::/64 encap ip6 id 3 dst 2001:db8:1::2 hoplimit 9 dev ext
	ping6a 2001:db8:88::1
	ip -n a fou add port 5555 ipproto 41 -6
	ip -n a link add f type ip6tnl mode ip6ip6 local $local remote $remote encap fou encap-sport auto encap-dport 5555
	ip -n a addr add 2001:db8:79::1/64 dev f nodad
	ip -n a link set f up
	ping6a 2001:db8:79::2
	ip -n a -6 tunnel add o mode ip6ip6 remote $remote local $local
	ip -n a -6 tunnel change o mode ip6ip6 hoplimit 7
	ip -n a -6 tunnel show
	ip -n a -6 tunnel del o
	ip -n a -6 route add 2001:db8:89::/64 encap ila 1:2:3:4 csum-mode no-action via 2001:db8:1::2
	ping6a 2001:db8:89::1
	unpair a b
}

# Segment routing, RPL and IOAM as far as the kernel has them.
segments() {
	pair a b
	for namespace in a b; do
		ip netns exec $namespace sysctl -qw net.ipv6.conf.all.seg6_enabled=1 net.ipv6.conf.all.forwarding=1
	done
	in_a sysctl -qw net.ipv6.conf.va.seg6_enabled=1
	in_b sysctl -qw net.ipv6.conf.vb.seg6_enabled=1 net.ipv6.conf.vb.ioam6_enabled=1 net.ipv6.conf.vb.ioam6_id=3
	ip -n b link add d0 type dummy
	ip -n b link set d0 up
	ip -n b addr add 2001:db8:50::1/64 dev d0 nodad
	while read -r encap; do
		[ -n "$encap" ] || continue
		# shellcheck disable=SC2086 # a list of words
		ip -n a -6 route add 2001:db8:50::/64 encap $encap via 2001:db8:1::2 dev va || ip -n a -6 route add 2001:db8:50::/64 encap $encap dev va || continue
		ping6a 2001:db8:50::1
		ip -n a -6 route show 2001:db8:50::/64
		ip -n a -6 route del 2001:db8:50::/64
	done <<-'LIST'
		seg6 mode inline segs 2001:db8:1::2
		seg6 mode encap segs 2001:db8:1::2,2001:db8:50::9
		seg6 mode encap.red segs 2001:db8:1::2
		seg6 mode l2encap segs 2001:db8:1::2
		seg6 mode inline segs 2001:db8:1::2 hmac 7
		rpl segs 2001:db8:1::2
		ioam6 trace prealloc type 0x800000 ns 1 size 12
	LIST
	ip -n b sr hmac set 7 sha256 <<<secret
	ip -n a sr tunsrc set 2001:db8:1::1
	ip -n b ioam namespace add 1 data 5
	ip -n b ioam schema add 2 hello
	ip -n b ioam namespace set 1 schema 2
	ip -n b ioam namespace show
	while read -r action; do
		[ -n "$action" ] || continue
		# shellcheck disable=SC2086 # a list of words
		ip -n b -6 route add 2001:db8:60::1/128 encap seg6local action $action dev vb || continue
		ip -n a -6 route replace 2001:db8:50::/64 encap seg6 mode encap segs 2001:db8:60::1 via 2001:db8:1::2 dev va
		ip -n a -6 route replace 2001:db8:60::/64 via 2001:db8:1::2
		ping6a 2001:db8:50::1
		ip -n b -6 route show 2001:db8:60::1
		ip -n b -6 route del 2001:db8:60::1/128
	done <<-'LIST'
		End
		End flavors psp
		End.X nh6 2001:db8:1::1
		End.T table 254
		End.DX6 nh6 ::
		End.DT6 table 254
		End.DX4 nh4 192.0.2.1
		End.DX2 oif d0
		End.B6 srh segs 2001:db8:50::1
		End.B6.Encaps srh segs 2001:db8:50::1
	LIST
	unpair a b
}

# IPsec in transport and tunnel mode, each protocol.
ipsec() {
	pair a b
	local k=0x0123456789abcdef0123456789abcdef01234567 e=0x0123456789abcdef0123456789abcdef
	for mode in transport tunnel beet; do
		for proto in esp ah; do
			[ $proto$mode != ahbeet ] || continue
			for namespace in a b; do
				for pair in "2001:db8:1::1 2001:db8:1::2" "2001:db8:1::2 2001:db8:1::1"; do
					set -- $pair
					case $proto in
					esp) ip -n $namespace xfrm state add src $1 dst $2 proto esp spi 0x1$3 mode $mode reqid 1 auth 'hmac(sha1)' $k enc 'cbc(aes)' $e sel src $1 dst $2 ;;
					ah) ip -n $namespace xfrm state add src $1 dst $2 proto ah spi 0x2 mode $mode reqid 1 auth 'hmac(sha1)' $k sel src $1 dst $2 ;;
					esac
					dir=out
					[ "$namespace$1" = "a2001:db8:1::2" ] && dir=in
					[ "$namespace$1" = "b2001:db8:1::1" ] && dir=in
					ip -n $namespace xfrm policy add src $1 dst $2 dir $dir tmpl src $1 dst $2 proto $proto mode $mode reqid 1
				done
			done
			ping6a -s 100 2001:db8:1::2
			ping6a -s 3000 2001:db8:1::2
			ip -n a -s xfrm state
			for namespace in a b; do
				ip -n $namespace xfrm policy flush
				ip -n $namespace xfrm state flush
			done
		done
	done
	ip -n a xfrm state add src 2001:db8:1::1 dst 2001:db8:1::2 proto route2 mode ro coa 2001:db8:1::9
	ip -n a xfrm state add src 2001:db8:1::1 dst 2001:db8:1::2 proto hao mode ro coa 2001:db8:1::9
	ip -n a xfrm state flush
	unpair a b
}

# Labels of CALIPSO, source address selection, early demultiplexing, unusual system settings.
options() {
	pair a b
	in_b iperf3 -s -D >/dev/null 2>&1
	for setting in ip6_dst_hoplimit=9 bindv6only=1 flowlabel_consistency=0 auto_flowlabels=3 flowlabel_state_ranges=0 \
		flowlabel_reflect=7 icmp.echo_ignore_multicast=1 icmp.error_anycast_as_unicast=1 idgen_retries=2 \
		calipso_cache_enable=1 calipso_cache_bucket_size=3 seg6_flowlabel=1 skip_notify_on_dev_down=1 anycast_src_echo_reply=1; do
		in_a sysctl -qw "net.ipv6.$setting"
	done
	in_a timeout 4 iperf3 -c 2001:db8:1::2 -n 200K
	ping6a 2001:db8:1::2
	in_b sysctl -qw net.ipv4.tcp_syncookies=2
	in_a timeout 4 iperf3 -c 2001:db8:1::2 -n 100K
	in_a sysctl -qw net.ipv4.tcp_early_demux=0 net.ipv4.udp_early_demux=0
	in_a timeout 4 iperf3 -u -c 2001:db8:1::2 -n 50K
	in_a sysctl -a 2>/dev/null | grep -c net.ipv6
	unpair a b
}

# A web server on ::1 and over the pair.
web() {
	pair a b
	mkdir -p /tmp/www
	head -c 100000 /dev/urandom >/tmp/www/file
	cat >/tmp/nginx.conf <<-'CONF'
		daemon on; pid /tmp/nginx.pid; error_log /dev/null; events { worker_connections 64; }
		http { access_log off; server { listen [::]:8080; root /tmp/www; } }
	CONF
	in_b nginx -c /tmp/nginx.conf
	sleep 1
	in_b timeout 15 ab -q -n 60 -c 4 'http://[::1]:8080/file'
	in_a timeout 15 ab -q -n 60 -c 4 'http://[2001:db8:1::2]:8080/file'
	in_a timeout 10 ab -q -k -n 100 -c 2 'http://[2001:db8:1::2]:8080/none'
	unpair a b
}

# VRFs, VLANs, macvlan, bridges with IPv6 on top.
vrfs() {
	pair a b
	ip -n a link add red type vrf table 20
	ip -n a link set red up
	ip -n a link set va master red
	ip -n a addr add 2001:db8:1::1/64 dev va nodad
	in_a ping -6 -q -c 2 -i 0.05 -w 1 -I red 2001:db8:1::2
	in_b iperf3 -s -D >/dev/null 2>&1
	sleep 0.5
	in_a ip vrf exec red timeout 4 iperf3 -c 2001:db8:1::2 -n 100K
	ip -n a link set va nomaster
	for kind in "vlan id 5" "macvlan mode bridge" "ipvlan mode l3"; do
		# shellcheck disable=SC2086 # a list of words
		ip -n a link add link va name u type $kind && {
			ip -n a addr add 2001:db8:31::1/64 dev u nodad
			ip -n a link set u up
			in_a ping -6 -q -c 1 -w 1 2001:db8:31::2
			ip -n a link del u
		}
	done
	ip -n a link add br type bridge mcast_snooping 1 mcast_querier 1
	ip -n a link set va master br
	ip -n a link set br up
	ip -n a addr add 2001:db8:1::5/64 dev br nodad
	ping6a 2001:db8:1::2
	unpair a b
}

# What /proc shows.
proc() {
	cat /proc/net/if_inet6 /proc/net/tcp6 /proc/net/udp6 /proc/net/raw6 /proc/net/udplite6 /proc/net/snmp6 /proc/net/sockstat6 \
		/proc/net/ip6_flowlabel /proc/net/ipv6_route /proc/net/rt6_stats /proc/net/dev_snmp6/lo /proc/net/ip6_mr_vif /proc/net/ip6_mr_cache | wc -l
}
