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
. eval/lib.sh

# A part of a compartment is judged by the recording of the whole.
run_of() {
	case $1 in
	ip6_output) echo ipv6 ;;
	nf_tables_api) echo nf_tables ;;
	cls_route) echo sched ;;
	*) echo "$1" ;;
	esac
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
	machine "$1" "$2" "$to" --mode without && mkdir -p "eval/expected/$1" && cp "$to/results.tsv" "eval/expected/$1/$2.tsv"
}

export -f record expected
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
