#!/bin/sh
# The compiler of a recorded kernel build: OTF_CLANG, with the front end run once per kernel file.
# Beside X.o it leaves X.bc, the bitcode before any optimisation, and X.codegen, the source and the
# arguments that make X.o out of X.bc, one to a line.
set -eu
clang=${OTF_CLANG:?}

source='' object='' compiles='' kernel='' next=''
for argument; do
	if [ -n "$next" ]; then
		object=$argument next=''
		continue
	fi
	case $argument in
	-o) next=1 ;;
	-c) compiles=1 ;;
	-D__KERNEL__) kernel=1 ;;
	# Code that runs before the kernel: a part of neither vmlinux nor a module.
	-m16 | -m32)
		kernel=0
		break
		;;
	*.c) source=$source$argument ;;
	esac
done
case $object in *.o) ;; *) compiles='' ;; esac
case $source in '' | *.c*.c) compiles='' ;; esac
[ "$compiles$kernel" = 11 ] || exec "$clang" "$@"

stem=${object%.o}
"$clang" "$@" -o "$stem.bc" -emit-llvm -Xclang -disable-llvm-passes

# What only the front end reads is left out, so that the record names no path.
left=$# next=''
while [ "$left" -gt 0 ]; do
	argument=$1
	shift
	left=$((left - 1))
	if [ -n "$next" ]; then
		next=''
		continue
	fi
	case $argument in
	-o | -I | -D | -U | -include | -isystem | -idirafter | -iquote) next=1 ;;
	-Wa,*) set -- "$@" "$argument" ;;
	-c | -nostdinc | -I* | -D* | -U* | -W* | -std=* | -g*) ;;
	-f*-prefix-map=* | -fdebug-compilation-dir=*) ;;
	"$source") ;;
	*) set -- "$@" "$argument" ;;
	esac
done
set -- -w -Wno-unused-command-line-argument "$@"
printf '%s\n' "$source" "$@" >"$stem.codegen"
exec "$clang" "$@" -c -x ir "$stem.bc" -o "$object"
