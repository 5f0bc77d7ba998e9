# `make run` starts Kaigi, `make test` tests it. Both bring what is missing first (scripts/setup.sh).

.NOTPARALLEL:
.DEFAULT_GOAL := help
SHELL := /bin/bash

# Arguments for `kaigi up`, for example: make run ARGS="--http-port 8088"
ARGS ?=
# Arguments for the end-to-end tests, for example: make e2e E2E="conference -t 'leaves'"
E2E ?=

.PHONY: run build setup setup-test binaries web docs test lint unit web-test e2e docker-test bench doctor clean help

run: build ## set up, build and start Kaigi (ARGS="…" are passed on to `kaigi up`)
	exec target/release/kaigi up $(ARGS)

build: setup binaries web ## build all binaries (target/release) and the web pages (web/dist)

binaries:
	cargo build --release --workspace --bins --locked

web: setup ## build the web pages and the browser SDK (web/dist)
	cd web && npm run build

docs: setup ## API documentation: the browser SDK's in web/dist/docs, the crates' in target/doc
	cd web && npm run docs
	cargo doc --workspace --no-deps --locked

test: setup-test lint unit web-test binaries e2e ## all checks and tests, from formatting to real browsers

lint: ## formatting and lints of the Rust code
	cargo fmt --all -- --check
	cargo clippy --workspace --all-targets --locked -- -D warnings

unit: ## tests of the Rust code
	cargo test --workspace --locked

# The build comes last and serves the end-to-end tests too.
web-test: setup-test ## types, tests and build of the web pages
	cd web && npm run check && npm test && npm run docs -- --emit none && npm run build

# Needs what `make build` makes. The tests are in tests/e2e; each file starts Kaigi for itself.
e2e: setup-test ## end-to-end tests on what is built: real processes, real Chromium
	cd tests/e2e && npm run --silent check && npx vitest run $(E2E)

# Not part of `make test`: it needs root or a running engine, and some minutes.
docker-test: build setup-test ## what is in deploy/ on a real Docker engine: image, compose, Swarm
	tests/docker/run.sh

# What docs/PERFORMANCE.md reports. Ratios suffer less than times on a busy machine, absolute times do not.
bench: build setup-test ## benchmarks of hot paths, and what a conference costs each process
	cargo bench --workspace --locked --bench '*'
	cd tests/e2e && npx vitest run --config vitest.scenarios.config.ts
	target/release/kaigi chaos
	for scenario in one-to-100 one-to-1000 meeting-50 crowd-leaves churn; do target/release/kaigi bench $$scenario; done
	if command -v janus > /dev/null; then target/release/kaigi bench one-to-100 --beside janus; fi

doctor: build ## look for what would keep Kaigi from running here
	target/release/kaigi doctor

setup:
	@scripts/setup.sh

setup-test:
	@scripts/setup.sh --test

clean: ## remove everything that was built
	rm -rf .cache target web/dist web/node_modules tests/e2e/node_modules tests/e2e/artifacts

help: ## this list
	@sed -n 's/^\([a-z0-9-]*\):.*## /\1\t/p' Makefile | awk -F'\t' '{ printf "  make %-10s %s\n", $$1, $$2 }'
