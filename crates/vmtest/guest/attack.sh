# A bug that an overlay brought back is attacked: attack.sh without|audit|deny [working] [aftermath]
. /otf/lib.sh

ACTION=$1

# What an attack leaves behind may keep anybody waiting for ever.
# With its path: by name busybox would run its own shell, whose `ip` is another one.
limited() { timeout -k 5 90 /bin/sh /otf/overlay/trigger.sh "$@"; }

check modules load_modules || exit
[ "$ACTION" = without ] || load_bundle "$ACTION" || exit
case " $* " in *" working "*) check working otf-load phase working || exit ;; esac
check set_up trigger setup || exit
check alive_before trigger alive
if [ "$ACTION" != without ]; then
	observe ordinary.before
fi
case " $* " in *" aftermath "*)
	equal quiet_before "" "$(kernel_complaints | head -n 3 | tr '\n' ';')"
	check lockdep_watches lockdep_watches
	check leaks_known leaks_known
	;;
esac
limited attack >/tmp/attack 2>&1
echo "OTF-SAID attack $(tail -n 3 /tmp/attack | tr '\n' ' ')"
# Looking for harm may be what the kernel does not survive.
if [ "$ACTION" != without ]; then
	observe attack
fi
if harm=$(limited harm 2>&1); then
	echo "OTF-SAID harm $harm" | head -n 1
fi
if [ "$ACTION" != without ]; then
	observe attack
fi
# What a violation left behind must not stop others.
if limited alive >/tmp/alive 2>&1; then
	echo "OTF-SAID alive yes"
else
	echo "OTF-SAID dead $(tail -n 3 /tmp/alive | tr '\n' ' ')"
fi
# What the kernel's own checks have to say, with the attacked objects still there, and when the policy and
# everything that the trigger made is as gone as it can be.
case " $* " in *" aftermath "*)
	leaks | sed 's/^/OTF-SAID leak /'
	kernel_complaints | sed 's/^/OTF-SAID complaint /'
	lockdep_watches && echo "OTF-SAID lockdep watches"
	;;
esac
echo "OTF-SAID end"
