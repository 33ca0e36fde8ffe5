# What the evaluations share: steps that are not run again when nothing changed, and the machine. Read by scripts in this
# folder, which stand in the root of the repository.
export OTF_CACHE=${OTF_CACHE:-$HOME/.cache/otf}
otf=target/release/otf
vmtest=target/release/otf-vmtest
load=target/x86_64-unknown-linux-gnu/release/otf-load
key=${OTF_SIGNING_KEY:-$OTF_CACHE/keys/otf.key}
steps=out/eval

# hash FILE...: of the contents of files.
hash() { cat "$@" 2>/dev/null | sha256sum | cut -c1-32; }

# step KERNEL NAME LIMIT STAMP COMMAND...: runs the command unless it succeeded with the same stamp before.
step() {
	local folder=$steps/$1 name=$2 limit=$3 stamp=$4 code started=$SECONDS
	shift 4
	mkdir -p "$folder"
	if [ "$(cat "$folder/$name.done" 2>/dev/null)" = "$stamp" ]; then
		return
	fi
	rm -f "$folder/$name.done" "$folder/$name.failed"
	echo "eval: ${folder##*/}: $name"
	# shellcheck disable=SC2016 # the inner shell expands it: a step may be a function
	timeout -k 10 "$limit" bash -c '"$@"' step "$@" >"$folder/$name.log" 2>&1
	code=$?
	echo $((SECONDS - started)) >"$folder/$name.seconds"
	if [ $code -eq 0 ]; then
		echo "$stamp" >"$folder/$name.done"
		return
	fi
	if [ $code -eq 124 ] || [ $code -eq 137 ]; then
		echo "$name did not end within $limit s" >"$folder/$name.failed"
	else
		echo "$name failed: $(grep -m 1 -E '^error|OTF-TEST .* FAIL|^Panic|panicked' "$folder/$name.log" ||
			tail -n 1 "$folder/$name.log")" >"$folder/$name.failed"
	fi
	echo "eval: ${folder##*/}: $(cat "$folder/$name.failed")" >&2
	return 1
}

# lock KERNEL COMPARTMENT FIELD: a value of kernel.lock.yaml that stands on one line or folded on the next.
lock() { awk -v field="$3" '$1 == field { if ($2 == ">-") getline; else $1 = ""; gsub(/^ +/, ""); print; exit }' "out/$1/$2/kernel.lock.yaml"; }

# What the machine needs: a root for all kernels, the modules of this one. Sets root and modules.
images() {
	local kernel=$1 compartment=$2 release folder
	release=$(lock "$kernel" "$compartment" release:)
	# One source tree serves all kernels: they are built from the same package.
	root=$(eval/root.sh "$OTF_CACHE/$(lock "$kernel" "$compartment" source:)") || return 1
	folder=$OTF_CACHE/$(awk '/^vmlinuz:/ { on = 1 } on && /path:/ { if ($2 == ">-") getline; else $1 = ""; gsub(/^ +/, ""); print; exit }' "out/$kernel/$compartment/kernel.lock.yaml")
	# A package keeps its modules under lib/modules, a kernel that was built under loadable.
	while [ "$folder" != "$OTF_CACHE" ] && [ "$folder" != / ]; do
		folder=$(dirname "$folder")
		for modules in "$folder/lib/modules/$release" "$folder/loadable"; do
			[ -d "$modules" ] || continue
			modules=$(eval/modules.sh "$modules" "$release")
			return
		done
	done
	echo "eval: $kernel: no modules above the image" >&2
	return 1
}

# machine KERNEL COMPARTMENT TO [OPTION...]
machine() {
	local kernel=$1 compartment=$2 to=$3
	shift 3
	$vmtest record --out "out/$kernel" --load $load --key "${key%.key}.pub" --compartment "$compartment" \
		--workload "$compartment" --root-image "$root" --modules-image "$modules" --budget "$BUDGET" --to "$to" "$@"
}

export otf vmtest load key steps root modules BUDGET
export -f machine
scripts=$(hash eval/root.sh eval/modules.sh eval/workloads/* crates/vmtest/guest/{lib,enter,record}.sh)
