# Every command a developer needs; `make help` lists them. All of them work in a fresh clone as root on
# Debian with Go and Rust: what else is needed, `setup` installs or builds once, outside the clone.

SHELL := /bin/bash
.DEFAULT_GOAL := help
# Compiled crates outlive the clone, as the cluster's programs do: a second clone builds in a fraction of the time.
export CARGO_TARGET_DIR ?= $(or $(BLOBSTORE_CACHE),$(or $(XDG_CACHE_HOME),$(HOME)/.cache)/blobstore-e2e)/cargo
TARGET := $(CARGO_TARGET_DIR)
# What the images hold is what is measured: one build for both.
STATIC := x86_64-unknown-linux-gnu
# The build of the tests, whatever is asked for: cargo resolves features per selection, and each would be a build of
# its own, Kubernetes' types and all. A test program brings its package's binary along.
E2E := cargo test --ignore-rust-version --quiet --locked --workspace --no-run --test crd_reference && $(TARGET)/debug/blobstore-e2e

.PHONY: help own setup cluster-up cluster-down cluster-status images demo test test-unit test-e2e test-engines bench bench-parts bench-operator soak lint

help: ## List the commands
	@grep -E '^[a-z0-9-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-16s %s\n", $$1, $$2}'

own:
	@e2e/target.sh

setup: own ## Install the packages and build the components that the cluster needs (once)
	@e2e/setup.sh

cluster-up: setup ## Start a three-node Kubernetes on this machine, or find it running
	@$(E2E) up

cluster-down: own ## Take it down, all of it
	@$(E2E) down

cluster-status: own ## Show its processes, nodes and kubeconfig
	@$(E2E) status

images: cluster-up ## Build the operator's and the sidecar's image and load them into the cluster
	@$(E2E) images

demo: setup ## The whole product in one go: cluster, chart, a store, a file in and out
	@$(E2E) demo

test: own ## Everything: format, lint, unit tests, then a cluster and the end-to-end tests; KEEP_CLUSTER=1 keeps it
	@e2e/run-tests.sh all

test-unit: own ## The workspace's own tests, no cluster needed
	@e2e/run-tests.sh unit

test-e2e: own ## The end-to-end tests on the one-machine cluster or on the context in KUBE_CONTEXT
	@e2e/run-tests.sh e2e

test-engines: own ## The store's and the sidecar's tests on Valkey and on a newer Redis
	@e2e/run-tests.sh engines

bench: own ## Speed and memory beside nginx, Varnish, webdis, versitygw, MinIO and the bare engine, as a table
	@e2e/setup.sh peers
	@RUSTFLAGS="-C target-feature=+crt-static" cargo build --ignore-rust-version --release --locked --target $(STATIC) \
		-p blobstore-operator -p blobstore-sidecar
	@cargo run --ignore-rust-version --release --quiet --locked -p blobstore-bench -- \
		--sidecar $(TARGET)/$(STATIC)/release/blobstore-sidecar --cache $(dir $(TARGET)) $(BENCH)

bench-parts: own ## Benches of the hot parts: keys, records, ranges, checksums, protocol, cache, buffers
	@cargo bench --ignore-rust-version --locked -p blobstore-sidecar-core -p blobstore-sidecar-store --bench parts -- $(BENCH)
	@cargo bench --ignore-rust-version --locked -p blobstore-sidecar-core -p blobstore-sidecar-store --bench buffers

bench-operator: own ## Memory of the operator and its requests to the API server with fifty stores
	@RUSTFLAGS="-C target-feature=+crt-static" cargo test --ignore-rust-version --release --locked --target $(STATIC) \
		-p blobstore-operator -p blobstore-sidecar --test fifty -- --nocapture

soak: own ## Each fuzz target for FUZZ_SECONDS (60), all engines, then the end-to-end tests again and again for SOAK_MINUTES (60)
	@e2e/run-tests.sh soak

lint: own ## Format and lint, warnings are errors
	@e2e/run-tests.sh lint
