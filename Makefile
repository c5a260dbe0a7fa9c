# Everything that can be done with this tree. `make help` lists it; CI calls nothing else.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

# Build results and downloaded sources stay outside the tree, so that a clean clone finds them again.
export CATAMARAN_CACHE ?= $(or $(XDG_CACHE_HOME),$(HOME)/.cache)/catamaran
export CARGO_TARGET_DIR ?= $(CATAMARAN_CACHE)/target
KEEP ?=
FILTER ?=
FUZZ_SECONDS ?= 10
FUZZ_HISTORIES ?= 100000
OUTAGE_SECONDS ?= 1800
MIRRORS ?= 1000

TARGET := x86_64-unknown-linux-gnu
# One file without libraries. Functions that compiled to the same code are one, and relocations are packed.
STATIC := -C target-feature=+crt-static -C link-arg=-Wl,--icf=all -C link-arg=-Wl,-z,pack-relative-relocs
# What is measured is built as what is installed is, and shares its dependencies.
RELEASE := --locked --target $(TARGET)
BENCH := RUSTFLAGS="$(STATIC)" cargo bench $(RELEASE)
PACKAGES := runc iproute2 nftables iptables util-linux curl git ca-certificates
# Unoptimized, as the tests are: only the operator itself is built for speed, and its dependencies twice. No command that
# builds so names the packages that it is for: Cargo would choose other features of what they share, and build it once more.
CLUSTER := cargo run --quiet --locked --bin cluster --
CLUSTER_TOOL = $(CARGO_TARGET_DIR)/debug/cluster
OPERATOR = $(CARGO_TARGET_DIR)/$(TARGET)/release/catamaran
# What needs the programs of the test cluster; the first is the cluster's own test.
SMOKE := --test smoke
END_TO_END := --test copying --test pulling --test rendering --test e2e

.PHONY: help
help: ## List the targets
	@grep -hE '^[a-z0-9-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 18

.PHONY: demo
demo: deps cluster-build image-binary ## Show an outage and the way back on a throwaway local cluster (KEEP=1 leaves it up)
	KEEP=$(KEEP) cargo run --quiet --locked --bin demo

# Neither an interrupt nor the end of what started make leaves a build or one of these clusters behind. The programs take their
# clusters down themselves when they are told to end, which takes a while.
E2E := $(or $(CATAMARAN_CLUSTER),catamaran-e2e)
SMOKES := smoke two-nodes
CLUSTERS = $(E2E) $(E2E)-releases $(E2E)-nodes
DOWN = for name in $(CLUSTERS); do test ! -x "$(CLUSTER_TOOL)" || "$(CLUSTER_TOOL)" --name "$$name" down; done
SESSION = GRACE=90 AFTERWARDS='$(DOWN)' tests/session.sh

# What runs on clusters is built, and then runs, and mostly waits there: for kubelets, leases, stable minutes. The time that this
# leaves compiles everything else, and lints it; its tests, some of which look at a clock, come last and have the machine.
# The first part that fails is the last.
.PHONY: test whole clusters
test: CLUSTERS += $(SMOKES)
test: ## Lint, check generated files, run every test; installs what it needs
	@$(SESSION) $(ALONE) whole

whole: deps formatted
	$(ALONE) harness
	@MAKE="$(ALONE)" tests/beside.sh clusters meanwhile
	$(ALONE) unit
	@echo "everything passed; nothing was skipped"

clusters:
	$(MAKE) --no-print-directory --jobs=2 programs operator
	$(ALONE) on-clusters

# Inside of what runs beside others, Cargo is not to count its jobs with make.
BY_ITSELF := env --unset=MAKEFLAGS --unset=MFLAGS
ALONE := $(BY_ITSELF) $(MAKE) --no-print-directory
.PHONY: programs operator cluster-tool harness on-clusters meanwhile
programs: cluster-tool
	nice $(CLUSTER_TOOL) build

operator:
	nice $(ALONE) image-binary

# First, because building the cluster's programs takes longest and begins with it.
cluster-tool:
	$(BY_ITSELF) cargo build --quiet --locked --bin cluster

# Lists the tests' programs with their folders.
harness: cluster-tool
	$(BY_ITSELF) cargo test --locked --no-run --message-format=json-render-diagnostics $(SMOKE) $(END_TO_END) \
	  | sed -nE 's/.*"manifest_path":"([^"]*)\/Cargo.toml".*"kind":\["test"\].*"executable":"([^"]*)".*/\1 \2/p' \
	  >"$(CARGO_TARGET_DIR)/on-clusters"

# By their programs: Cargo would wait for the Cargo that builds the sources.
on-clusters:
	@while read -r folder program; do \
	  echo "running $$program"; (cd "$$folder" && CATAMARAN_BINARY="$(OPERATOR)" "$$program" </dev/null); \
	done <"$(CARGO_TARGET_DIR)/on-clusters"

# Helm 3, Flux and the tools of etcd are for later scenarios; one that comes too soon waits for them.
meanwhile:
	$(CLUSTER_TOOL) build helm3 flux etcd-tools
	$(ALONE) lint boundaries
	cargo test --locked --no-run
	tests/interrupt.sh

.PHONY: unit
unit: ## Unit, property, webhook, registry and command-line tests
	@# Many wait for a clock or for another process, and not for a processor.
	RUST_TEST_THREADS=8 tests/counted.sh unit cargo test --locked

.PHONY: cluster-test
cluster-test: CLUSTERS = $(SMOKES)
cluster-test: cluster-build ## Tests of the test cluster itself
	@$(SESSION) cargo test --locked $(SMOKE)

.PHONY: e2e scenarios
e2e: cluster-build image-binary ## End-to-end tests on a real cluster (FILTER=name runs some, REPEAT=3 each three times)
	@$(SESSION) $(ALONE) scenarios

scenarios:
	@tests/idle.sh $(CLUSTER_TOOL) build registries registry2 helm3 flux etcd-tools & status=0; \
	CATAMARAN_BINARY="$(OPERATOR)" cargo test --locked $(END_TO_END) -- $(FILTER) || status=$$?; \
	wait $$! || true; exit $$status

.PHONY: long-outage
long-outage: ## 40 mirrors in an outage of half an hour that never says the same twice (OUTAGE_SECONDS=1800)
	OUTAGE_SECONDS=$(OUTAGE_SECONDS) $(ALONE) e2e FILTER=a-long-outage

.PHONY: many-mirrors
many-mirrors: ## 1,000 mirrors of the same two registries: what each adds, and how far apart their flips are (MIRRORS=1000)
	MIRRORS=$(MIRRORS) $(ALONE) e2e FILTER=mirrors-of-one-registry

.PHONY: interrupt
interrupt: ## Check that an interrupted make leaves nothing running
	tests/interrupt.sh

.PHONY: test-live
test-live: ## The registry client against live services (docs/testing.md says which variables name them)
	cargo test --locked --test live

.PHONY: fuzz
fuzz: ## Every parser against broken input for FUZZ_SECONDS each (10), and FUZZ_HISTORIES (100,000) histories of a mirror
	FUZZ_SECONDS=$(FUZZ_SECONDS) FUZZ_HISTORIES=$(FUZZ_HISTORIES) cargo test --locked fuzzed_

.PHONY: bench
bench: ## Measure ledger, machine, mirrors, detection, webhook and verification, and reviews while 1,000 to 1,000,000 tags change; fails below its bars
	$(BENCH) -p catamaran-core --bench ledger --bench machine --bench mirrors
	SIMULATED_OUTAGES=20000 cargo test --locked --release --test simulator detection -- --nocapture
	$(BENCH) -p catamaran-webhook
	$(BENCH) -p catamaran-controller --bench parity --bench tags

.PHONY: bench-parity
bench-parity: deps ## Verify 10,000 tags of emulated clouds beside regsync, with bars (BENCH_FULL=1: all of regsync with latency)
	$(CLUSTER) build regsync
	REGSYNC=$(CATAMARAN_CACHE)/cluster/bin/regsync/regsync $(BENCH) -p catamaran-controller --bench clouds

.PHONY: bench-rollout
bench-rollout: deps cluster-build image-binary ## Count admissions lost while replicas and certificates are replaced (ADMISSIONS=100000)
	cargo run --quiet --locked --bin rollout

.PHONY: formatted
formatted:
	cargo fmt --all --check
	cd tests/cluster/tool && test -z "$$(gofmt -l .)"

.PHONY: lint
lint: formatted words ## Formatting, words and clippy, warnings are errors
	cargo clippy --locked --all-targets --all-features -- --deny warnings
	@# Those that `cargo test` leaves out are left out above, too.
	cargo clippy --locked --test '*' --all-features -- --deny warnings
	cd tests/cluster/tool && go vet ./...

.PHONY: words
words: ## Look for words that tests/words.txt has a plainer one for
	tests/words.sh

.PHONY: boundaries
boundaries: ## Check that the crates depend on each other only as docs/architecture.md says
	./tests/boundaries.sh

.PHONY: generate
generate: ## Write the generated files: CRD, command-line help, docs/reference, the chart's README and goldens
	UPDATE_CRDS=1 UPDATE_REFERENCE=1 cargo test --quiet --test definition
	UPDATE_REFERENCE=1 cargo test --quiet --bin catamaran reference
	TRYCMD=overwrite cargo test --quiet --test cmd
	UPDATE_GOLDENS=1 cargo test --quiet --test rendering

.PHONY: format
format: ## Format the sources
	cargo fmt --all

.PHONY: image-binary
image-binary: ## The static binary that goes into the operator's image
	RUSTFLAGS="$(STATIC)" cargo build --release $(RELEASE) -p catamaran

# What is released is the same wherever it is built: no folder of a machine is in it.
CARGO_HOME ?= $(HOME)/.cargo
REMAP := --remap-path-prefix=$(CURDIR)=/catamaran --remap-path-prefix=$(CARGO_HOME)=/cargo --remap-path-prefix=$(CARGO_TARGET_DIR)=/target
REMAP_C := -ffile-prefix-map=$(CURDIR)=/catamaran -ffile-prefix-map=$(CARGO_HOME)=/cargo -ffile-prefix-map=$(CARGO_TARGET_DIR)=/target
DIST := CFLAGS="$(REMAP_C)" cargo build --profile dist --locked -p catamaran
ARM64 := aarch64-unknown-linux-gnu
ARM64_GCC := aarch64-linux-gnu-gcc

.PHONY: release-binaries release-amd64 release-arm64
release-binaries: release-amd64 release-arm64 ## Static binaries for amd64 and arm64, the same bytes wherever they are built

release-amd64:
	RUSTFLAGS="$(STATIC) $(REMAP)" $(DIST) --target $(TARGET)
	@ls -l "$(CARGO_TARGET_DIR)/$(TARGET)/dist/catamaran"

release-arm64:
	@command -v $(ARM64_GCC) >/dev/null || { echo "$(ARM64_GCC) is missing: as root, apt-get install gcc-aarch64-linux-gnu libc6-dev-arm64-cross"; exit 1; }
	rustup target list --installed | grep -qx $(ARM64) || rustup target add $(ARM64)
	CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_LINKER=$(ARM64_GCC) CC_aarch64_unknown_linux_gnu=$(ARM64_GCC) \
	  RUSTFLAGS="-C target-feature=+crt-static $(REMAP)" $(DIST) --target $(ARM64)
	@ls -l "$(CARGO_TARGET_DIR)/$(ARM64)/dist/catamaran"

.PHONY: reproducible
reproducible: ## Build the amd64 binary of this commit twice, in two folders, and compare the bytes (13 minutes)
	tests/reproducible.sh

.PHONY: cluster-build
cluster-build: deps ## Build Kubernetes and what else the test cluster runs, once
	$(CLUSTER) build

HELM ?= $(CATAMARAN_CACHE)/cluster/bin/helm/helm
CHART_VERSION = $(shell sed -n 's/^version: //p' charts/catamaran/Chart.yaml)

.PHONY: chart-push
chart-push: ## Publish the chart as an OCI artifact (REGISTRY=oci://HOST/PATH; log in with `helm registry login`)
	@case "$(REGISTRY)" in oci://?*) ;; *) echo "say where to: make chart-push REGISTRY=oci://ghcr.io/OWNER/charts"; exit 2;; esac
	@test -x "$(HELM)" || { echo "there is no helm at $(HELM): make cluster-build, or HELM=$$(command -v helm)"; exit 2; }
	rm -rf "$(CATAMARAN_CACHE)/chart"
	"$(HELM)" package charts/catamaran --destination "$(CATAMARAN_CACHE)/chart"
	"$(HELM)" push "$(CATAMARAN_CACHE)/chart/catamaran-$(CHART_VERSION).tgz" "$(REGISTRY)"

.PHONY: deps
deps: ## Install what building and the test cluster need (Debian packages; Rust and Go must be there)
	@command -v cargo >/dev/null || { echo "cargo is missing: install Rust (https://rustup.rs)"; exit 1; }
	@command -v go >/dev/null || { echo "go is missing: install Go 1.26 or newer (https://go.dev/dl)"; exit 1; }
	@missing=; for p in $(PACKAGES); do dpkg-query -W -f='$${Status}' $$p 2>/dev/null | grep -q 'ok installed' || missing="$$missing $$p"; done; \
	if [ -n "$$missing" ]; then \
	  [ "$$(id -u)" = 0 ] || { echo "as root, install:$$missing"; exit 1; }; \
	  apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $$missing; \
	fi
	@rustup component list 2>/dev/null | grep -q '^rustfmt.*(installed)' || rustup component add rustfmt clippy

.PHONY: clean
clean: ## Take the test clusters down; the caches stay
	-$(CLUSTER) down
