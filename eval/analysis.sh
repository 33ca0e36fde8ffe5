#!/bin/bash
# eval/analysis.sh [expected]: the whole evaluation of the analysis, for each kernel and compartment: analyze, record ordinary
# use in a machine, judge, report. A step whose inputs did not change is not run again; each has a time limit; one that
# fails is named in the report, and the others go on. With `expected`: only the workloads, without a bundle.
# KERNELS, COMPARTMENTS and RUNS narrow it; BUDGET is the seconds that a workload gets.
set -u
cd "$(dirname "$(readlink -f "$0")")/.."
: "${KERNELS:=debian-6.12 lab-6.12}"
: "${COMPARTMENTS:=ipv6 ip6_output nf_tables nf_tables_api sched cls_route}"
: "${RUNS:=ipv6 nf_tables sched}"
: "${BUDGET:=600}"
export OTF_CACHE=${OTF_CACHE:-$HOME/.cache/otf}
otf=target/release/otf
vmtest=target/release/otf-vmtest
load=target/x86_64-unknown-linux-gnu/release/otf-load
key=${OTF_SIGNING_KEY:-$OTF_CACHE/keys/otf.key}
steps=out/eval

# A part of a compartment is judged by the recording of the whole.
run_of() {
	case $1 in
	ip6_output) echo ipv6 ;;
	nf_tables_api) echo nf_tables ;;
	cls_route) echo sched ;;
	*) echo "$1" ;;
	esac
}

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

# Where the sites are, but not what is legal there: a recording stays good as long as these do.
places() {
	python3 - "$1" <<'PY'
import hashlib, json, sys
sites = json.load(open(sys.argv[1]))
rows = [(s["location"], s["operand"], s["length"]) for s in sites["sites"]] + [(c["location"], c["through"]) for c in sites["calls"]]
print(hashlib.sha256(json.dumps(rows, sort_keys=True).encode()).hexdigest()[:32])
PY
}

# record KERNEL COMPARTMENT: the machine under the recording bundle; keeps the sites that were recorded with.
record() {
	local to=$steps/$1/$2
	rm -rf "$to"
	mkdir -p "$to"
	$otf compile "out/$1/$2" --record && machine "$1" "$2" "$to" && cp "out/$1/$2/sites.json" "$to/recorded-sites.json"
}

expected() {
	local to=$steps/$1/$2.without
	rm -rf "$to"
	machine "$1" "$2" "$to" --without && mkdir -p "eval/expected/$1" && cp "$to/results.tsv" "eval/expected/$1/$2.tsv"
}

export otf vmtest load key steps root modules BUDGET
export -f machine record expected
scripts=$(hash eval/root.sh eval/modules.sh eval/workloads/* crates/vmtest/guest/*)
failed=0
for kernel in $KERNELS; do
	analyzed=$(hash $otf "kernels/$kernel/kernel.yaml" "kernels/$kernel/fragment.config")
	for compartment in $COMPARTMENTS; do
		step "$kernel" "$compartment.analyze" 2400 "$analyzed $(hash "kernels/$kernel/compartments/$compartment.yaml")" \
			$otf analyze --kernel "$kernel" --compartment "$compartment" || failed=1
	done
	for run in $RUNS; do
		[ -f "out/$kernel/$run/sites.json" ] && [ ! -f "$steps/$kernel/$run.analyze.failed" ] || continue
		images "$kernel" "$run" || { failed=1; continue; }
		limit=$((BUDGET + 2400))
		if [ "${1:-}" = expected ]; then
			step "$kernel" "$run.expected" $limit "$scripts $BUDGET $modules" expected "$kernel" "$run" || failed=1
		else
			step "$kernel" "$run.record" $limit "$scripts $BUDGET $modules $(hash $load) $(places "out/$kernel/$run/sites.json")" \
				record "$kernel" "$run" || failed=1
		fi
	done
done
if [ "${1:-}" != expected ]; then
	cases=()
	for compartment in $COMPARTMENTS; do
		for kernel in $KERNELS; do
			cases+=("$kernel/$compartment=$(run_of "$compartment")")
		done
	done
	$otf eval-report "${cases[@]}" || failed=1
fi
exit $failed
