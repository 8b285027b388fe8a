# `make demo` and `make test` are the two commands; both install what is missing and say what they do.
# `make help` lists the rest.

SHELL := /bin/bash
.DEFAULT_GOAL := help
CARGO ?= cargo
# What the demo and the tests run besides our own code: dig and nslookup, kdig, dnsmasq (kube-dns's forwarder), zone checkers.
DEMO_PACKAGES := build-essential ca-certificates dnsutils
TEST_PACKAGES := $(DEMO_PACKAGES) bind9-utils dnsmasq-base knot-dnsutils procps util-linux
FUZZ_SECONDS ?= 60

.PHONY: help demo test lint build bench fuzz deps-demo deps-test toolchain

help: ## list the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):[^#]*## /\1\t/' | expand -t 12

demo: deps-demo ## build, serve the sample clusterset on 127.0.0.1:5353, show answers, go on until Ctrl-C
	@echo "==> building portolan (the first time takes a few minutes)"
	@$(CARGO) build --release --locked -p portolan
	@deploy/demo.sh target/release/portolan

test: deps-test ## install what the tests need and run them all
	@echo "==> building and running all tests (the first time takes several minutes)"
	@$(CARGO) test --workspace --locked

lint: toolchain ## formatting, and clippy with warnings denied
	@$(CARGO) fmt --all --check
	@$(CARGO) clippy --workspace --all-targets --locked -- -D warnings

build: toolchain ## release binary at target/release/portolan
	@$(CARGO) build --release --locked -p portolan

bench: toolchain ## lookup, render, update at a million names, changed files, load and memory: figures with their limits
	@$(CARGO) bench --locked -p portolan-zones
	@$(CARGO) bench --locked -p portolan-sync
	@$(CARGO) bench --locked -p portolan-dns
	@$(CARGO) bench --locked -p portolan-tests

fuzz: toolchain ## fuzz the packet path for FUZZ_SECONDS (default 60)
	@command -v cargo-fuzz >/dev/null || { echo "==> installing cargo-fuzz"; $(CARGO) install --locked cargo-fuzz; }
	@cd dns && $(CARGO) fuzz run -s none packet -- -max_total_time=$(FUZZ_SECONDS) -max_len=4096

deps-demo: toolchain
	@deploy/install.sh $(DEMO_PACKAGES)

deps-test: toolchain
	@deploy/install.sh $(TEST_PACKAGES)

toolchain:
	@deploy/install.sh --rust
