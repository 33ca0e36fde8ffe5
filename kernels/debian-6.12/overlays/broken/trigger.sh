#!/bin/sh
# One illegal write, call or free through /dev/otf_broken.
#
# Needs otf_broken and the oracle modules `neighbour` (fill=165) and `otf_victim`.
#	trigger.sh KIND [COMMAND...]
# prints `write=STATUS changed=BYTES command=STATUS`: how the writing process ended (0 written,
# 1 refused, 137 killed), how many bytes of the victim have changed (of a double free: how
# many objects have two owners), and how COMMAND ended, which is
# run while the attacked file is still open. The writing process is one of its own.
BROKEN=/dev/otf_broken
NEIGHBOUR=/sys/kernel/debug/neighbour
VICTIM=/sys/kernel/debug/otf_victim
KIND=$1
shift

# The last thing that the illegal write needs; 3 is the attacked file.
write() {
	# A box has 8192 bytes in its cache; its arrays start at 24 (slots), 1560 (flags),
	# 1816 (marks), 1944 (rows), 6064 (text): all of these land in the object behind it.
	case $KIND in
	slot) echo "slot 343 0x4242424242424242" ;;
	held) echo "held 343 0x4242424242424242" ;;
	lock_or) echo "flag 836 0x4242424242424242" ;;
	lock_bts) echo "mark 51073" ;;
	rep_stos) echo "wipe 25" ;;
	memcpy) echo "text 4096" ;;
	global) echo "poke 0x4242424242424242" ;;
	stack) echo "bad" ;;
	freed) echo "note 0x4242424242424242" ;;
	freed_*) echo "leaf 0x4242424242424242" ;;
	call) echo "call 0x42" ;;
	double_free) echo renew ;;
	esac >&3
}

case $KIND in
slot | held | lock_or | lock_bts | rep_stos | memcpy) changed=$NEIGHBOUR/changed ;;
global | call) changed=$VICTIM/global_changed ;;
stack) changed=$VICTIM/frame_changed ;;
freed | freed_*) changed=$VICTIM/spray_changed ;;
double_free) changed=$VICTIM/spray_shared ;;
*)
	echo "trigger.sh KIND [COMMAND...]; overlay.yaml lists the kinds" >&2
	exit 2
	;;
esac

echo 1 >$NEIGHBOUR/restore
echo 1 >$VICTIM/restore
if [ "$KIND" = stack ]; then
	exec 3>$VICTIM/frame
else
	# The box takes the hole.
	echo 1 >$NEIGHBOUR/hole
	exec 3>$BROKEN
fi

# freed WAY SOURCE: a leaf is obtained and freed, and its place taken by others.
freed() {
	echo "grow $1" >&3 && echo shed >&3 || return
	[ "$KIND" != freed_destroyed ] || echo raze >&3 || return
	echo "$2" >$VICTIM/source && echo 32 >$VICTIM/spray
}
case $KIND in
freed_cache) freed 0 1 ;;
freed_cache_bulk) freed 1 1 ;;
freed_destroyed) freed 2 4 ;;
freed_bulk) freed 3 0 ;;
freed_rcu) freed 4 0 ;;
freed_realloc) freed 5 0 ;;
freed_page) freed 6 2 ;;
freed_vmalloc) freed 7 3 ;;
# The note is freed, and its place taken by others, before anybody writes to it or frees it again.
freed | double_free) echo drop >&3 && echo 32 >$VICTIM/spray ;;
global) echo "point $(cat $VICTIM/address)" >&3 ;;
call) echo "hook $(cat $VICTIM/function)" >&3 ;;
esac || exit 2

(write) 2>/dev/null
status=$?
bytes=$(cat $changed)
"$@" >/dev/null 2>&1
echo "write=$status changed=$bytes command=$?"
