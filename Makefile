# make analyze [KERNEL=debian-6.12] [COMPARTMENT=sch_qfq] [OVERLAY=…]   ends with the path of a signed bundle
# make demo                                                            the attack without and with the bundle
# make test                                                            everything
KERNEL      ?= debian-6.12
COMPARTMENT ?=
OVERLAY     ?=
OTF_CACHE   ?= $(HOME)/.cache/otf
export OTF_CACHE

CARGO   := cargo
OTF     := target/release/otf
VMTEST  := target/release/otf-vmtest
TRIPLE  := x86_64-unknown-linux-gnu
LOAD    := target/$(TRIPLE)/release/otf-load
ATTACK  := target/$(TRIPLE)/release/otf-attack
TOOLS   := $(OTF_CACHE)/lint-tools
KEY     := $(or $(OTF_SIGNING_KEY),$(OTF_CACHE)/keys/otf.key)
PUBKEY  := $(KEY:.key=.pub)

.PHONY: all setup build analyze demo test lint unit bundles vm schema bless clean lab test-unguarded test-attacks test-aftermath test-benign test-endurance fuzz eval-analysis eval-expected bench-analysis bench-runtime
all: build

setup:
	@scripts/setup.sh

build: setup
	$(CARGO) build --release --workspace --bins --exclude otf-load --exclude otf-attacks --exclude otf-exercise
	$(CARGO) build --release --target $(TRIPLE) -p otf-load -p otf-attacks -p otf-exercise \
		--config 'target.$(TRIPLE).rustflags=["-Ctarget-feature=+crt-static"]'

analyze: build
	$(OTF) analyze --kernel $(KERNEL) $(if $(COMPARTMENT),--compartment $(COMPARTMENT)) $(if $(OVERLAY),--overlay $(OVERLAY))

# The bundles that demo and tests use: the stock module, the module with the bug, the broken module, one with a private heap.
bundles: build
	$(OTF) analyze --kernel $(KERNEL) --compartment sch_qfq
	$(OTF) compile out/$(KERNEL)/sch_qfq --record
	$(OTF) analyze --kernel $(KERNEL) --compartment sch_qfq --overlay cve-2023-31436
	$(OTF) analyze --kernel $(KERNEL) --compartment otf_broken --overlay broken
	$(OTF) analyze --kernel $(KERNEL) --compartment otf_broken --overlay broken --private-heap --out out/private-heap
	$(OTF) analyze --kernel $(KERNEL) --compartment otf_heap --overlay heap --private-heap

demo: build
	$(OTF) analyze --kernel $(KERNEL) --compartment sch_qfq --overlay cve-2023-31436
	$(VMTEST) demo --out out/$(KERNEL) --load $(LOAD) --key $(PUBKEY)

lint: setup
	@scripts/lint-tools.sh $(TOOLS)
	$(CARGO) fmt --all --check
	$(CARGO) clippy --workspace --all-targets --quiet -- -D warnings
	cd fuzz && $(CARGO) check --quiet --target-dir ../target/fuzz
	$(TOOLS)/bin/cargo-deny --log-level error check bans licenses sources
	$(TOOLS)/bin/typos

# Unit and integration tests; those on real images find them through OTF_OUT.
unit: bundles
	OTF_OUT=$(CURDIR)/out/$(KERNEL) $(CARGO) test --release --workspace --quiet

vm: bundles
	$(VMTEST) test --out out/$(KERNEL) --load $(LOAD) --key $(PUBKEY)

# The kernel that is built here: ordinary use under deny, the attack without and with the bundle. The first time it builds
# the kernel, a quarter of an hour.
lab: build
	$(OTF) analyze --kernel lab-6.12 --compartment sch_qfq
	$(OTF) analyze --kernel lab-6.12 --compartment sch_qfq --overlay cve-2023-31436
	$(VMTEST) stock --out out/lab-6.12 --load $(LOAD) --key $(PUBKEY)
	$(VMTEST) demo --out out/lab-6.12 --load $(LOAD) --key $(PUBKEY)

test: lint unit vm lab

# Audit and kill on Debian's 6.1, which is too old for the guard. Not part of `test`: its packages are another gigabyte.
test-unguarded: build
	$(OTF) analyze --kernel debian-6.1 --compartment sch_qfq --overlay cve-2023-31436
	$(VMTEST) unguarded --out out/debian-6.1 --load $(LOAD) --key $(PUBKEY)

# Every bug of kernels/KERNEL/overlays/ that has an `attack`: without a policy, under audit, under deny. Writes
# out/eval/attacks.json and docs/evaluation/attacks.md. ATTACKS narrows it, SMP gives the machine more CPUs. HEAP=1: under deny
# alone, by policies with a private heap; a section of the same file.
ATTACKS ?= $(sort $(foreach f,$(shell grep -l '^attack:' kernels/*/overlays/*/overlay.yaml),$(notdir $(patsubst %/,%,$(dir $(f))))))
test-attacks: build
	for attack in $(ATTACKS); do $(OTF) analyze --kernel $(KERNEL) --overlay $$attack $(if $(HEAP),--private-heap) || exit; done
	$(VMTEST) attacks --out out/$(KERNEL) $(if $(HEAP),--private-heap) --load $(LOAD) --key $(PUBKEY) $(foreach a,$(ATTACKS),--only $(a)) \
		--program $(ATTACK) --smp $(or $(SMP),1)

# The same under deny alone, on a kernel that checks itself: locking, RCU, sleeping, leaks. Writes out/eval/aftermath.json and
# a section of docs/evaluation/attacks.md.
test-aftermath: build
	for attack in $(ATTACKS); do $(OTF) analyze --kernel lab-6.12-debug --overlay $$attack || exit; done
	$(VMTEST) attacks --out out/lab-6.12-debug --load $(LOAD) --key $(PUBKEY) $(foreach a,$(ATTACKS),--only $(a)) \
		--program $(ATTACK) --smp $(or $(SMP),2) --aftermath

# A bundle loaded, replaced and unloaded under traffic for MINUTES: no complaint of the kernel, nothing left behind.
MINUTES ?= 30
test-endurance: build
	$(OTF) analyze --kernel $(KERNEL) --compartment sch_qfq
	$(OTF) analyze --kernel $(KERNEL) --compartment sch_qfq --overlay cve-2023-31436
	$(VMTEST) endurance --out out/$(KERNEL) --load $(LOAD) --key $(PUBKEY) --minutes $(MINUTES)

# Ordinary use and the kernel's selftests without a bundle and under deny: no violation, the same results. Writes
# out/eval/benign.json and docs/evaluation/benign.md. KERNELS, RUNS and BUDGET narrow it.
test-benign: build
	@eval/benign.sh

# Analyzes and records the compartments of both kernels, and writes docs/evaluation/analysis.md: hours under emulation, the
# second time only what changed. KERNELS, COMPARTMENTS, RUNS and BUDGET narrow it.
eval-analysis: build
	@eval/analysis.sh

# The results of the workloads without a bundle, eval/expected/, to compare with.
eval-expected: build
	@eval/analysis.sh expected

# Time and memory of the analysis: facts of the whole lab kernel, the whole-program step for ipv6, and
# resolving against the 354 MB of Debian's vmlinux. Writes out/bench/analysis.json.
bench-analysis: build
	test -f out/lab-6.12/ipv6/kernel.lock.yaml || $(OTF) analyze --kernel lab-6.12 --compartment ipv6
	test -f out/debian-6.12/ipv6/analysis.json || $(OTF) analyze --kernel debian-6.12 --compartment ipv6
	$(OTF) bench out/lab-6.12/ipv6 --resolve out/debian-6.12/ipv6 -o out/bench/analysis.json

# What operations cost without a policy, with it, and with a probe for every store, in instructions. Writes
# out/bench/runtime.json and docs/evaluation/runtime.md. COMPARTMENTS and OPERATIONS narrow it; what was measured with the
# same inputs is not measured again, and REPORT=1 only writes the report.
bench-runtime: build
	@COMPARTMENTS="$(COMPARTMENTS)" OPERATIONS="$(OPERATIONS)" eval/runtime.sh $(if $(REPORT),--report)

# Every parser of ours under libFuzzer, SECONDS each. The corpus stays in the cache.
SECONDS_EACH ?= 20
fuzz: setup
	@scripts/fuzz.sh $(SECONDS_EACH)

# Writes docs/schema/ from the types.
schema: build
	$(OTF) schema docs/schema

# Accepts what the tests produce as their expectation.
bless: bundles
	OTF_BLESS=1 OTF_OUT=$(CURDIR)/out/$(KERNEL) $(CARGO) test --release --workspace --quiet

clean:
	rm -rf target out
