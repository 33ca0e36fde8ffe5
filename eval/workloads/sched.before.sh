# A slab cache of the bridge holds objects that legal sets name.
modprobe -q bridge
