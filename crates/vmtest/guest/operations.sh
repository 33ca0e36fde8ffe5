# Operations that are measured: operation_NAME sets up what it needs and measures, after_KIND takes that down again.
# Counts are such that what a policy adds is well above what else the kernel does meanwhile; where it should add nothing,
# there are more.
rounds=2
declare -A kind

# measure NAME COUNT OPERATION [ARGUMENT...]
measure() { otf-exercise "$1" "$2" "$rounds" "${@:3}"; }

# ---- what has nothing to do with a compartment
kind[null_syscall]=local
operation_null_syscall() { measure null_syscall 400000 null_syscall; }
kind[pipe]=local
operation_pipe() { measure pipe 10000 pipe; }
kind[fork_exec]=local
operation_fork_exec() { measure fork_exec 200 fork_exec; }
kind[file]=local
operation_file() { measure file 5000 file; }
kind[sockets]=local
operation_sockets() { measure sockets 3000 sockets; }
after_local() { :; }

# ---- IPv6
kind[udp_round_trip]=local
operation_udp_round_trip() { measure udp_round_trip 1000 udp_round_trip ::1; }

# web NAME BYTES COUNT LESS: requests to nginx, each on a connection of its own.
web() {
	mkdir -p /tmp/web /var/log/nginx
	head -c "$2" /dev/zero >/tmp/web/file
	cat >/tmp/nginx.conf <<-'CONF'
		daemon off;
		worker_processes 1;
		pid /tmp/nginx.pid;
		error_log /tmp/nginx.error;
		events { worker_connections 64; }
		http {
			access_log off;
			sendfile on;
			server { listen [::1]:8080; root /tmp/web; }
		}
	CONF
	nginx -c /tmp/nginx.conf &
	server=$!
	until [ -s /tmp/nginx.pid ]; do
		kill -0 $server && sleep 0.1 || return
	done
	measure "$1" "$3" command '' "$4" ab -q -n '{}' -c 1 'http://[::1]:8080/file'
}
kind[tcp_100k]=web
operation_tcp_100k() { web tcp_100k 102400 40 5; }
kind[tcp_1m]=web
operation_tcp_1m() { web tcp_1m 1048576 16 4; }
kind[tcp_10m]=web
operation_tcp_10m() { web tcp_10m 10485760 4 1; }
after_web() {
	kill $server
	wait $server
	rm -rf /tmp/web /tmp/nginx.pid
}

# ---- nf_tables
kind[nft_100_rules]=nft
operation_nft_100_rules() {
	{
		echo 'add table ip bench'
		echo 'add chain ip bench out { type filter hook output priority 0; }'
		for port in $(seq 1 100); do
			echo "add rule ip bench out udp dport $port counter drop"
		done
	} | nft -f - && measure nft_100_rules 1000 udp_one_way 127.0.0.1
}
kind[nft_set_insert]=nft
operation_nft_set_insert() {
	for count in 100 500; do
		awk -v count=$count 'BEGIN {
			for (i = 0; i < count; i++)
				list = list (i ? ", " : "") "10.1." int(i / 250) "." i % 250
			print "add element ip bench s { " list " }"
		}' >/tmp/elements.$count
	done
	measure nft_set_insert 400 command \
		'nft delete table ip bench 2>/dev/null; nft "add table ip bench; add set ip bench s { type ipv4_addr; }"' \
		100 nft -f '/tmp/elements.{}'
}
after_nft() { nft delete table ip bench; }

# ---- queueing disciplines: datagrams to a device that drops them behind its discipline
dummy() {
	ip link add bench type dummy && ip addr add 10.9.0.1/24 dev bench && ip link set bench up
}
kind[qfq]=dummy
operation_qfq() {
	dummy && tc qdisc add dev bench root handle 1: qfq &&
		tc class add dev bench parent 1: classid 1:1 qfq weight 10 maxpkt 2048 &&
		measure qfq 2000 udp_send 10.9.0.2 10001 && sent qfq
}
kind[htb]=dummy
operation_htb() {
	dummy && tc qdisc add dev bench root handle 1: htb &&
		tc class add dev bench parent 1: classid 1:1 htb rate 10gbit burst 100mb quantum 60000 &&
		measure htb 2000 udp_send 10.9.0.2 10001 && sent htb
}
kind[cls_route]=dummy
operation_cls_route() {
	dummy && tc qdisc add dev bench root handle 1: htb &&
		tc class add dev bench parent 1: classid 1:1 htb rate 10gbit burst 100mb quantum 60000 &&
		ip route add 10.9.1.0/24 dev bench realm 10 &&
		tc filter add dev bench parent 1: protocol ip prio 1 route to 10 classid 1:1 &&
		measure cls_route 2000 udp_send 10.9.1.2 0 && sent htb
}
# sent KIND: the class of the discipline has passed what was sent, so it was the discipline that was measured.
sent() {
	local packets
	packets=$(tc -s class show dev bench | awk '$1 == "Sent" { print $4; exit }')
	[ "$packets" -ge 2000 ] || {
		echo "class of $1 passed $packets packets"
		return 1
	}
}
after_dummy() { ip link del bench; }
