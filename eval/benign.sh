#!/bin/bash
# eval/benign.sh: ordinary use of whole compartments without a bundle and under their policy with *deny*, in a machine: no
# violation, the same results. Writes out/eval/benign.json and docs/evaluation/benign.md.
# KERNELS and RUNS narrow it; BUDGET is the seconds that a workload gets each time.
set -u
cd "$(dirname "$(readlink -f "$0")")/.."
: "${KERNELS:=debian-6.12 lab-6.12}"
: "${RUNS:=ipv6 nf_tables sched}"
: "${BUDGET:=600}"
. eval/lib.sh

# run KERNEL COMPARTMENT MODE: the workload; under a policy it may take longer, so that it has more time.
run() {
	local to=$steps/$1/$2.$3
	rm -rf "$to"
	mkdir -p "$to"
	machine "$1" "$2" "$to" --mode "$3"
}
export -f run

failed=0
cases=()
for kernel in $KERNELS; do
	analyzed=$(hash $otf "kernels/$kernel/kernel.yaml" "kernels/$kernel/fragment.config")
	for run in $RUNS; do
		cases+=("$kernel/$run")
		step "$kernel" "$run.analyze" 2400 "$analyzed $(hash "kernels/$kernel/compartments/$run.yaml")" \
			$otf analyze --kernel "$kernel" --compartment "$run" || { failed=1; continue; }
		images "$kernel" "$run" || { failed=1; continue; }
		limit=$((BUDGET + 2400))
		step "$kernel" "$run.without" $limit "$scripts $BUDGET $modules" run "$kernel" "$run" without || failed=1
		step "$kernel" "$run.deny" $limit "$scripts $BUDGET $modules $(hash $load "out/$kernel/$run/$run.otf")" \
			run "$kernel" "$run" deny || failed=1
	done
done
$otf benign-report "${cases[@]}" || failed=1
exit $failed
