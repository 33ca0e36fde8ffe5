# Ordinary use of the stock module while a bundle records what its sites write.
. /otf/lib.sh

check modules load_modules
check ordinary.set_up ordinary setup 1
check record.load otf-load load /otf/record.otf --key /otf/key.pub
check ordinary.old_qdisc ordinary traffic 1
check ordinary.classes ordinary classes 1
check ordinary.new_qdisc ordinary all 2
check ordinary.delete ordinary delete 1
check record.status otf-load status
check record.dump otf-load recording --output /tmp/recording.json
check record.unload otf-load unload
gzip -c /tmp/recording.json | xxd -p -c 60 | sed 's/^/OTF-RECORDING /'
quiet_kernel kernel_has_no_complaint
