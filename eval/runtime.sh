#!/bin/bash
# eval/runtime.sh: what operations cost without a policy, with it, and with a probe for every store, in instructions.
# Writes out/bench/runtime.json and docs/evaluation/runtime.md. COMPARTMENTS and OPERATIONS narrow it; what was measured with
# the same inputs is not measured again.
set -u
cd "$(dirname "$(readlink -f "$0")")/.."
: "${KERNEL:=debian-6.12}"
: "${COMPARTMENTS:=ip6_output ipv6 nf_tables cls_route sched ipv6+nf_tables+sched}"
: "${OPERATIONS:=}"
. eval/lib.sh

# bundles COMPARTMENT: makes both, with the guard as it is now.
bundles() { $otf analyze --kernel "$KERNEL" --compartment "$1" && $otf compile "out/$KERNEL/$1" --naive; }
export -f bundles
export KERNEL

compiled=$(hash $otf)
options=()
for compartment in $(tr ' +' '\n' <<<"$COMPARTMENTS" | sort -u); do
	folder=out/$KERNEL/$compartment
	step "$KERNEL" "$compartment.bundles" 1200 "$compiled $(hash "$folder/sites.json" "$folder/policy.yaml" crates/runtime/guard/*)" \
		bundles "$compartment" || exit
	first=${first:-$compartment}
done
for set in $COMPARTMENTS; do
	options+=(--compartment "$set")
done
for operation in $OPERATIONS; do
	options+=(--operation "$operation")
done
images "$KERNEL" "$first" || exit
exec $vmtest bench-runtime --out "out/$KERNEL" --load $load --key "${key%.key}.pub" --root-image "$root" \
	--modules-image "$modules" --exercise "${load%/*}/otf-exercise" "${options[@]}" "$@"
