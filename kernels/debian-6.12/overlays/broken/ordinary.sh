#!/bin/sh
# Ordinary use of otf_broken, every command within its bounds; fails when one is refused.
# Needs otf_broken and, for the call from another module, otf_victim.
set -eu

ordinary() { # ROUND
	echo "slot $1 7" >&3
	echo "slot 63 $1" >&3
	echo "held $1 7" >&3
	echo "flag $1 0x10" >&3
	echo "flag 31 0x1" >&3
	echo "mark $1" >&3
	echo "mark 1023" >&3
	echo "wipe $1" >&3
	echo "wipe 15" >&3
	echo "text $((64 * $1))" >&3
	echo "text 1024" >&3
	echo "poke $1" >&3
	echo "note $1" >&3
	echo renew >&3
	echo "step $1" >&3
	echo "call $1" >&3
	echo "step 0" >&3
	echo "call $1" >&3
	for way in 0 1 3 4 5 6 7; do
		echo "grow $way" >&3
		echo "leaf $1" >&3
		echo shed >&3
	done
	echo good >/sys/kernel/debug/otf_victim/frame
}

exec 3>/dev/otf_broken
for round in 1 2 3; do ordinary $round; done
echo drop >&3
exec 3>&-
