#!/usr/bin/env bash
# fuzz.sh SECONDS [TARGET…]: runs every fuzz target for so long, on a stable toolchain. The corpus
# stays under OTF_CACHE; a finding ends with its input's name and exit code 1.
set -euo pipefail
cd "$(dirname "$0")/../fuzz"
seconds=${1:?seconds per target}
shift
export RUSTFLAGS="--cfg fuzzing -Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4
	-Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table
	-Cllvm-args=-sanitizer-coverage-trace-compares -Ccodegen-units=1"
RUSTFLAGS=$(tr -s '\n\t' '  ' <<<"$RUSTFLAGS")
triple=x86_64-unknown-linux-gnu
targets=("$@")
if [ ${#targets[@]} = 0 ]; then
	mapfile -t targets < <(basename -s .rs -a targets/*.rs)
fi
# A target triple keeps the flags away from build scripts and procedural macros.
cargo build --release --quiet --target "$triple" --target-dir ../target/fuzz --bins
for target in "${targets[@]}"; do
	corpus=${OTF_CACHE:-$HOME/.cache/otf}/fuzz/$target
	mkdir -p "$corpus"
	seeds=()
	[ -d "seeds/$target" ] && seeds=("seeds/$target")
	[ "$target" = image ] && clang-19 -O2 -g -c seeds/image.c -o "$corpus/seed.o"
	[ "$target" = bitcode ] && clang-19 -O2 -g -Xclang -disable-llvm-passes -emit-llvm -c seeds/image.c -o "$corpus/seed.bc"
	[ "$target" = artifact ] && cp seeds/analysis.json "$corpus/"
	log=$(mktemp)
	if ! "../target/fuzz/$triple/release/$target" -max_total_time="$seconds" -timeout=20 \
		-rss_limit_mb=4096 -artifact_prefix="$corpus-" "$corpus" "${seeds[@]}" >"$log" 2>&1; then
		tail -40 "$log"
		rm -f "$log"
		exit 1
	fi
	printf '%-14s %s\n' "$target" "$(grep -aE '^Done' "$log")"
	rm -f "$log"
done
