# The whole toolbox. Every target does its own set-up: see scripts/setup.sh.

.DEFAULT_GOAL := help
.PHONY: help setup setup-tests demo test test-package check bench bench-quick bench-micro soak test-matrix fuzz

SECONDS ?= 20

help: ## list what can be made
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: ## install PostgreSQL if it is missing and may be installed
	@scripts/setup.sh

setup-tests: ## the same for what only the tests need
	@scripts/setup.sh tests

demo: setup ## a source and two targets, load and comparison (SECONDS=20)
	cargo run --release --locked -- demo --seconds $(SECONDS)

test: setup-tests ## all tests
	@scripts/test.sh

test-package: setup ## as root: build the Debian package, install it, mirror with it, purge it
	@scripts/check-package.sh

check: setup ## format, clippy, licences and sources of dependencies
	cargo fmt --all --check
	cargo clippy --workspace --all-targets --locked -- -D warnings
	@scripts/licences.sh

bench: setup ## measure beside native logical replication, into bench/RESULTS.md
	bench/run.sh

bench-quick: setup ## one small round of drain, backlog, latency and ddl, written nowhere; two minutes once built
	bench/run.sh --quick

bench-micro: ## decoding, the log and netting, each by itself
	cargo bench --locked -p decoder -p segment_log -p applier --bench decode --bench log --bench net

soak: setup ## 100 kill -9 cycles with each of three seeds, and the other faults for long
	@scripts/soak.sh

test-matrix: setup-tests ## the integration tests with PostgreSQL 14, 16, 17 and 18
	@scripts/test-matrix.sh

fuzz: setup ## fuzz every target for a minute (FUZZ_SECONDS=60)
	@scripts/fuzz.sh
