# make run    installs what is missing, builds, and serves on grpc://127.0.0.1:8980
# make test   installs what is missing, then lints and runs every test
# make test-fuzz  each fuzz target for FUZZTIME seconds
# make build  bin/hearth and bin/hearth-execserver
# make bench  the table of what a no-op action costs, compared with the last one
# make screenshots  makes the pictures of docs/console.md anew
# make demo   a real Bazel build on hearth: cold, warm, cached, and by podman exec
# make lint   what must be true of the source; make fmt repairs what it can
# make dist   what is released, in dist/: static programs, a Debian package, checksums
# make vuln   which modules have known vulnerabilities
# make proto  writes the Go code of the .proto files again

# The podman bindings alone, without podman's own libraries, which need cgo.
export GOFLAGS := -trimpath -tags=remote,containers_image_openpgp,exclude_graphdriver_btrfs,exclude_graphdriver_devicemapper
export CGO_ENABLED := 0

SHELL := /bin/bash
ROOTS := $(or $(XDG_CACHE_HOME),$(HOME)/.cache)/hearth
SID := $(ROOTS)/sid

# Packages whose tests start containers or Bazel, or link podman: run one after
# another and without the race detector, which would compile podman once more.
WHOLE := ./cmd/hearth/... ./runners/podman/...
RACE = $(shell go list ./... | grep -vE '/(cmd/hearth|runners/podman|e2e)(/|$$)')

# The kernel mounts files of a disk as input roots, and none of a tmpfs, which is
# what /tmp is on many machines.
ifeq ($(TMPDIR)$(shell stat -f -c %T /tmp),tmpfs)
test-unit test-fuzz test-podman test-bazel: export TMPDIR := /var/tmp
endif

# How many seconds each fuzz target runs.
FUZZTIME := 20

.PHONY: run build buildbarn buildbuddy test screenshots bench demo lint fmt proto dist vuln print-tags clean
.PHONY: needs sid systemd test-guard test-unit test-fuzz test-podman test-bazel
.NOTPARALLEL:

build:
	@command -v go > /dev/null || { echo "hearth is built with Go 1.26 or newer: https://go.dev/dl/" >&2; exit 1; }
	go build -o bin/hearth ./cmd/hearth
	@# Half the size without symbols and gRPC's tracing: each runner maps it.
	go build -tags=grpcnotrace -ldflags='-s -w' -o bin/hearth-execserver ./cmd/execserver

run:
	@.ci/install.sh run
	@$(MAKE) --no-print-directory build
	exec bin/hearth serve $(SERVE_FLAGS)

test: needs sid systemd build lint test-guard test-unit test-fuzz test-podman test-bazel

needs:
	@.ci/install.sh test

sid: needs
	@e2e/setup/sid-root.sh $(SID)

# A Debian 12 in which systemd starts.
systemd: needs
	@e2e/setup/systemd-root.sh $(ROOTS)/systemd

test-guard:
	.ci/gotest.sh ./e2e/guard/...

test-unit:
	CGO_ENABLED=1 .ci/gotest.sh -race -timeout=25m $(RACE)
	@# Whole stores in processes of their own, at their own speed.
	.ci/gotest.sh -timeout=15m ./cas/disk

test-fuzz:
	.ci/fuzz.sh $(FUZZTIME)

test-podman: build
	.ci/gotest.sh -count=1 -p=1 -timeout=15m $(WHOLE)

# Buildbarn's scheduler and storage, which some tests of hearth need.
buildbarn:
	.ci/buildbarn.sh

# A stand-in for BuildBuddy's app, likewise.
buildbuddy:
	go build -o bin/buildbuddy-app ./e2e/buildbuddy

test-bazel: build buildbarn buildbuddy
	SID_ROOT=$(SID) .ci/gotest.sh -count=1 -timeout=60m ./e2e

# The pictures of docs/console.md.
screenshots: build
	SCREENSHOTS=$(CURDIR)/docs/console go test ./e2e -count=1 -timeout=10m -run 'TestConsole/screenshots'

bench: build
	@mkdir -p .cache
	bin/hearth bench nop --compare --history=.cache/bench.jsonl

demo: build
	@e2e/setup/demo.sh

lint:
	go vet ./...
	go tool staticcheck ./...
	go tool depguard ./...
	@unformatted=$$(go tool gofumpt -l .) || exit 1; \
		[ -z "$$unformatted" ] || { echo "not formatted, run make fmt:"; echo "$$unformatted"; exit 1; } >&2
	.ci/gazelle.sh check
	@if command -v protoc > /dev/null; then .ci/proto.sh check; fi

fmt:
	go tool gofumpt -w .
	go run ./e2e/guard/conformance
	go run ./e2e/guard/properties
	go run ./cmd/hearth manual markdown > docs/flags.md.new
	mv docs/flags.md.new docs/flags.md
	.ci/gazelle.sh fix

proto:
	.ci/proto.sh fix

dist:
	.ci/dist.sh

# Of the modules that the programs contain, which have known vulnerabilities.
vuln:
	.ci/vuln.sh

# For .ci/dist.sh, which builds with the same tags.
print-tags:
	@echo $(filter -tags=%,$(GOFLAGS))

clean:
	rm -rf bin dist
