#!/bin/sh
# Ordinary use of otf_heap: every way to obtain memory with every way to free it.
# Needs otf_heap; fails when a command is refused, or when a word of an object was lost.
set -eu

exec 3<>/dev/otf_heap
for free in kfree kvfree sensitive rcu; do
	for obtain in fixed sized zeroed node array kv dup accounted tail; do
		for size in 48 96 200 1000 4000 8192; do
			case $obtain.$size in
			# beyond a page it may be vmalloc, which kfree does not know
			kv.8192) continue ;;
			esac
			echo "$obtain $size" >&3
			echo hold >&3
			echo $free >&3
		done
	done
done
# Grown and shrunk objects keep what is in them.
echo "sized 60" >&3
for size in 64 100 90 5000 20000 56; do
	echo "resize $size" >&3
done
echo kfree >&3
# What no cache serves.
for size in 8193 40000; do
	echo "sized $size" >&3
	echo hold >&3
	echo kfree >&3
	echo "kv $size" >&3
	echo kvfree >&3
done
exec 3>&-
