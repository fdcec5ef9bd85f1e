# make build test demo: what most people need. README.md says the rest.

SHELL   := /bin/bash
GO      ?= go
BIN     := bin
DIST    := dist
PEERS   := $(CURDIR)/.peers
PREFIX  ?= /usr/local
BINDIR  ?= $(PREFIX)/bin
MANDIR  ?= $(PREFIX)/share/man/man1

VERSION := $(shell git describe --tags --always --dirty 2>/dev/null || echo unreleased)
COMMIT  := $(shell git rev-parse --short=12 HEAD 2>/dev/null || echo unknown)
LDFLAGS := -s -w -X main.version=$(VERSION) -X main.commit=$(COMMIT)
export CGO_ENABLED := 0

# The other names the binary answers to, as far as their commands are built.
NAMES   = $(filter-out tritonops,$(basename $(notdir $(wildcard completions/*.bash))))

FUZZTIME ?= 30s

.PHONY: all build test race fuzz demo bench lint fmt completions docs peers install dist clean

all: build

build:
	$(GO) build -trimpath -ldflags '$(LDFLAGS)' -o $(BIN)/tritonops ./cmd/tritonops

# Tests that compare with a real program skip where it is missing; with
# TRITONOPS_REQUIRE_PEERS=1 they fail. TESTFLAGS is passed on.
test: peers
	TRITONOPS_PEERS=$(PEERS)/node_modules $(GO) test $(TESTFLAGS) ./...

# cmd is left out: its tests run the program thousands of times as a child, which
# the detector in the parent does not see.
race: peers
	TRITONOPS_PEERS=$(PEERS)/node_modules CGO_ENABLED=1 $(GO) test -race $(TESTFLAGS) $$($(GO) list ./... | grep -v /cmd/)

# Every fuzz target for FUZZTIME; `go test` itself runs their seeds.
fuzz:
	@set -euo pipefail; for pkg in $$($(GO) list ./...); do \
	  for target in $$($(GO) test -list '^Fuzz' "$$pkg" | grep '^Fuzz' || true); do \
	    echo "fuzz $$pkg $$target"; \
	    $(GO) test -run '^$$' -fuzz "^$$target\$$" -fuzztime $(FUZZTIME) "$$pkg"; \
	  done; \
	done

# The whole story on this machine: lab, backup, loss, restore. Prints its proof.
demo: build
	testdata/demo/demo.sh $(CURDIR)/$(BIN)/tritonops

# Ratios against manta-sync and curl in the same run. Takes minutes.
bench: build peers
	TRITONOPS_PEERS=$(PEERS)/node_modules testdata/bench/bench.sh $(CURDIR)/$(BIN)/tritonops

lint:
	@test -z "$$(gofmt -l cmd commands pkg)" || { gofmt -l cmd commands pkg; echo 'run: make fmt'; exit 1; }
	$(GO) vet ./...
	GOOS=illumos GOARCH=amd64 $(GO) vet ./...
	$(GO) tool staticcheck ./...

fmt:
	gofmt -w cmd commands pkg

# Both are committed; a test fails when they are stale.
completions:
	$(GO) test ./commands -run 'TestCompletionsAreFresh' -update -count=1

docs:
	$(GO) test ./commands -run 'TestTheReferenceIsFresh|TestTheManPagesAreFresh' -update -count=1

# The real programs that tests compare with.
peers:
	@testdata/peers.sh $(PEERS)

install: build
	install -d $(DESTDIR)$(BINDIR) $(DESTDIR)$(MANDIR) $(DESTDIR)$(PREFIX)/share/bash-completion/completions \
	  $(DESTDIR)$(PREFIX)/share/zsh/site-functions $(DESTDIR)$(PREFIX)/share/fish/vendor_completions.d
	install -m 0755 $(BIN)/tritonops $(DESTDIR)$(BINDIR)/tritonops
	for name in $(NAMES); do ln -sf tritonops $(DESTDIR)$(BINDIR)/$$name; done
	install -m 0644 docs/man/*.1 $(DESTDIR)$(MANDIR)/
	for file in completions/*.bash; do \
	  install -m 0644 $$file $(DESTDIR)$(PREFIX)/share/bash-completion/completions/$$(basename $$file .bash); done
	install -m 0644 completions/_* $(DESTDIR)$(PREFIX)/share/zsh/site-functions/
	install -m 0644 completions/*.fish $(DESTDIR)$(PREFIX)/share/fish/vendor_completions.d/

# One tarball per platform, made the same on every machine, with checksums.
dist:
	@testdata/dist.sh '$(VERSION)' '$(LDFLAGS)' $(DIST) $(NAMES)

clean:
	rm -rf $(BIN) $(DIST)
