# Needs only git, make and Go; the targets install the rest (see .ci/deps).

# Knobs, from the environment or the command line: make up SITES=3
SITES     ?= 2
CERTS     ?= 1000
SYNC      ?= mixed
BASE_PORT ?= 18000
FUZZTIME  ?= 30s
SOAK      ?= 10m

BINARIES := ocspd ocspsyncd ocspctl ocspfleet
TOOL     := go tool -modfile=tools/go.mod

export PATH := $(PATH):/usr/local/go/bin
# Go refuses to build where git refuses to speak (a clone of another user's).
ifneq ($(shell git rev-parse HEAD >/dev/null 2>&1 && echo yes),yes)
export GOFLAGS := $(GOFLAGS) -buildvcs=false
endif

.DEFAULT_GOAL := help
.PHONY: help build man deps deps-test up down demo test test-short check house fuzz soak bench

help: ## print this help
	@echo 'make TARGET, where TARGET is one of'
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  %-11s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)
	@echo 'Knobs: SITES=$(SITES) CERTS=$(CERTS) SYNC=$(SYNC) BASE_PORT=$(BASE_PORT) RESUME=$(RESUME) FUZZTIME=$(FUZZTIME) SOAK=$(SOAK)'

build: deps ## build the four programs into bin/
	go build -trimpath -o bin/ $(BINARIES:%=./cmd/%)

man: build ## write the manual pages into bin/man1, bin/man5, bin/man8 (man -l bin/man8/ocspd.8)
	bin/ocspctl man bin/man1
	bin/ocspfleet man bin/man1
	go run ./cmd/internal/manual/daemons bin

deps: ## install gcc, PostgreSQL, SoftHSM and openssl where missing (apt)
	@sh .ci/deps

deps-test: ## the same, and the foreign clients and servers that make test asks
	@sh .ci/deps test

up: build ## start a fresh fleet in .run (RESUME=1: keep the earlier one)
	bin/ocspfleet up --dir .run --sites $(SITES) --certs $(CERTS) --sync $(SYNC) --base-port $(BASE_PORT)$(if $(filter 1,$(RESUME)), --resume)

down: ## stop the fleet in .run
	@if [ ! -e .run ] && [ ! -L .run ]; then echo 'no fleet in .run: nothing to stop'; exit 0; fi; \
	if [ ! -x bin/ocspfleet ]; then go build -trimpath -o bin/ ./cmd/ocspfleet || exit 1; fi; \
	bin/ocspfleet down --dir .run

demo: build ## tell the story with a transcript, in a fleet of its own
	bin/ocspfleet demo --sync $(SYNC)

# Most tests wait for other processes: four packages at a time keep two cores at work. The
# longest begins.
# make check vets. Seconds of the last green run are kept for make house.
GOTEST = @mkdir -p bin; began=$$(date +%s); go test -vet=off -p 4 $(1) ./integration ./... && echo $$(($$(date +%s) - began)) > bin/$@.seconds

test: deps-test ## run every test, as on a fresh machine (8 minutes on 2 idle cores)
	$(call GOTEST,-race -count=1 -timeout 30m)

test-short: deps ## run the quick tests (75 seconds on 2 idle cores)
	$(call GOTEST,-short -count=1 -timeout 5m)

check: deps ## format, vet, staticcheck, go.mod, import order, frozen migrations, known vulnerabilities
	@unformatted=$$(gofmt -l . && $(TOOL) gofumpt -l .) || exit 1; \
	if [ -n "$$unformatted" ]; then echo "not formatted (run: $(TOOL) gofumpt -w .):"; echo "$$unformatted"; exit 1; fi
	go vet ./...
	$(TOOL) staticcheck ./...
	go mod tidy -diff
	cd tools && go mod tidy -diff
	go test -count=1 -run '^TestRooms' ./integration
	go test -count=1 -run '^TestFrozen' ./migrations
	@sh .ci/vuln

house: deps ## print the measures of the code: sizes, old words, import order
	@go run ./integration/house

fuzz: deps ## fuzz each target for FUZZTIME (seconds: 30s, minutes: 8m)
	@sh .ci/fuzz $(FUZZTIME)

soak: build ## throw garbage at a site for SOAK: memory and goroutines stay
	go run ./integration/soak -time $(SOAK)

bench: build ## measure a fleet of its own (writes .run/bench.json)
	go run ./integration/bench
