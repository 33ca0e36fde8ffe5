# What the workloads share. Read by record.sh, whose `task` runs one command with a limit.

selftest=/selftests

# pair A B: two network namespaces with a veth between them (va in A, vb in B), IPv4 and IPv6 addresses 1 and 2.
pair() {
	ip netns add "$1"
	ip netns add "$2"
	ip link add va netns "$1" type veth peer name vb netns "$2"
	ip -n "$1" addr add 192.0.2.1/24 dev va
	ip -n "$2" addr add 192.0.2.2/24 dev vb
	ip -n "$1" addr add 2001:db8:1::1/64 dev va nodad
	ip -n "$2" addr add 2001:db8:1::2/64 dev vb nodad
	ip -n "$1" link set lo up
	ip -n "$2" link set lo up
	ip -n "$1" link set va up
	ip -n "$2" link set vb up
}

# unpair A B: kills what runs in them and deletes them.
unpair() {
	for namespace in "$@"; do
		ip netns pids "$namespace" 2>/dev/null | xargs -r kill -9 2>/dev/null
		ip netns del "$namespace" 2>/dev/null
	done
	return 0
}

# script FOLDER NAME LIMIT [VARIABLE=VALUE...]: one of the kernel's selftest scripts.
script() {
	local folder=$1 name=$2 limit=$3
	shift 3
	task "$folder/$name" "$limit" env -C "$selftest/$folder" NETIF_CREATE=yes "$@" "./$name"
}

# own FUNCTION LIMIT [ARGUMENT...]: a shell function of the workload; each is a task of its own with its first argument.
own() {
	local function=$1 limit=$2
	shift 2
	task "$function${1:+-$1}" "$limit" \
		bash -c '. /otf/workloads/common.sh; . "$0"; "$@"' "/otf/workloads/$workload.d.sh" "$function" "$@"
}
