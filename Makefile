# `make demo` and `make test` are the two commands; both install what is missing and say what they do.
# `make help` lists the rest.

SHELL := /bin/bash
.DEFAULT_GOAL := help
export PATH := $(HOME)/.cargo/bin:$(PATH)
CARGO ?= cargo
# A C compiler is needed for the TLS library and the allocator.
BUILD_PACKAGES := gcc libc6-dev
# The node agent's programs are compiled for the kernel.
AGENT_PACKAGES := $(BUILD_PACKAGES) clang libbpf-dev
# The demo on a node has hosts in network namespaces, clients, pods and gateways.
DEMO_EBPF_PACKAGES := dnsutils iproute2 util-linux curl python3 haproxy
# dig for the demo; the tests also run nslookup, kdig, dnsmasq (kube-dns's forwarder), a zone checker, and the proxies that
# shared gateways are made of.
DEMO_PACKAGES := $(BUILD_PACKAGES) dnsutils
TEST_PACKAGES := $(DEMO_PACKAGES) $(AGENT_PACKAGES) bind9-utils dnsmasq-base knot-dnsutils procps iproute2 util-linux \
	haproxy nginx-light libnginx-mod-stream curl python3 socat ncat iputils-ping bpftool
# What the DNS server is measured against, and with.
PEER_PACKAGES := dnsperf knot knot-module-geoip nsd gdnsd pdns-server pdns-backend-bind pdns-backend-geoip bind9
FUZZ_SECONDS ?= 60

.PHONY: help demo demo-ebpf as-root test kubernetes lint build agent image image-agent bench bench-dns bench-ebpf bench-sync fuzz deps-build deps-agent deps-demo deps-test

help: ## list the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):[^#]*## /\1\t/' | expand -t 12

demo: deps-demo ## build, serve the sample clusterset on 127.0.0.1:5353, show answers, go on until Ctrl-C
	@echo "==> building portolan (the first time takes a few minutes)"
	@$(CARGO) build --release --locked -p portolan
	@deploy/demo.sh target/release/portolan

demo-ebpf: as-root deps-agent ## virtual IPs on a node: three clusters in network namespaces of this machine, redirected connections; as root
	@deploy/install.sh $(DEMO_EBPF_PACKAGES)
	@echo "==> building portolan and portolan-agent (the first time takes a few minutes)"
	@$(CARGO) build --release --locked -p portolan -p portolan-agent
	@deploy/demo-ebpf.sh target/release

test: deps-test kubernetes ## install what the tests need and run them all
	@echo "==> building and running all tests (the first time takes several minutes)"
	@$(CARGO) test --workspace --locked

kubernetes: deps-test ## build the Kubernetes API servers that the tests run against into target/kubernetes
	@tests/kubernetes/build.sh

lint: deps-agent ## formatting, and clippy with warnings denied
	@echo "==> checking format and lints"
	@$(CARGO) fmt --all --check
	@$(CARGO) clippy --workspace --all-targets --locked -- -D warnings

build: deps-build ## release binary at target/release/portolan
	@$(CARGO) build --release --locked -p portolan

agent: deps-agent ## release binary of the node agent at target/release/portolan-agent; needs clang, and installs it
	@$(CARGO) build --release --locked -p portolan-agent

image-agent: agent ## the same as a container image's root, and how to load it
	@deploy/install.sh ca-certificates
	@deploy/image.sh portolan-agent
	@echo "load it: docker import --change 'ENTRYPOINT [\"/usr/bin/portolan-agent\"]' target/image/portolan-agent.tar portolan-agent:0.1.0"

image: build ## the release binary as a container image's root, and how to load it
	@deploy/install.sh ca-certificates
	@deploy/image.sh
	@echo "load it: docker import --change 'ENTRYPOINT [\"/usr/bin/portolan\"]' target/image/portolan.tar portolan:0.1.0"

bench: deps-build ## lookup, render, update at a million names, follow, load and memory: figures with their limits
	@$(CARGO) bench --locked -p portolan-zones
	@$(CARGO) bench --locked -p portolan-dns
	@$(CARGO) bench --locked -p portolan-sync --bench follow
	@$(CARGO) bench --locked -p portolan-sync --bench probes
	@$(CARGO) bench --locked -p portolan-tests --bench load

bench-dns: deps-build kubernetes ## the DNS server against Knot, NSD, gdnsd, PowerDNS, BIND, CoreDNS and a bare echo; table, CSV, chart
	@deploy/install.sh util-linux procps
	@deploy/install.sh --idle $(PEER_PACKAGES)
	@$(CARGO) bench --locked -p portolan-tests --bench dns

bench-ebpf: deps-agent ## connect() with and without the socket hook, against DNAT and a proxy; as root
	@deploy/install.sh nftables haproxy bpftool util-linux iproute2
	@$(CARGO) bench --locked -p portolan-ebpf --bench hook

bench-sync: deps-build kubernetes ## from a change in one API server to the answer of another cluster, and what that costs
	@$(CARGO) bench --locked -p portolan-sync --bench clusterset
	@$(CARGO) bench --locked -p portolan-tests --bench sync

fuzz: deps-build ## fuzz the packet path for FUZZ_SECONDS (default 60)
	@deploy/install.sh g++
	@command -v cargo-fuzz >/dev/null || { echo "==> installing cargo-fuzz"; $(CARGO) install --locked cargo-fuzz; }
	@cd dns && $(CARGO) fuzz run -s none packet -- -max_total_time=$(FUZZ_SECONDS) -max_len=4096

# Before anything is installed or built for what only root may do.
as-root:
	@[ "$$(id -u)" = 0 ] || { echo "error: this needs root, to make network namespaces and attach eBPF programs: try sudo make" >&2; exit 1; }

deps-build:
	@deploy/install.sh $(BUILD_PACKAGES)
	@deploy/install.sh --rust

deps-agent: deps-build
	@deploy/install.sh $(AGENT_PACKAGES)

deps-demo: deps-build
	@deploy/install.sh $(DEMO_PACKAGES)

deps-test: deps-build
	@deploy/install.sh $(TEST_PACKAGES)
