#!/bin/bash
# Builds the release tarballs: dist.sh VERSION LDFLAGS DIR [NAME...]
set -euo pipefail

version=$1 ldflags=$2 out=$3
shift 3
rm -rf "$out"
mkdir -p "$out"
for os in linux illumos; do
	name=tritonops-$version-$os-amd64
	stage=$out/$name
	mkdir -p "$stage/bin"
	echo "dist: $name" >&2
	CGO_ENABLED=0 GOOS=$os GOARCH=amd64 go build -trimpath -ldflags "$ldflags" -o "$stage/bin/tritonops" ./cmd/tritonops
	for link in "$@"; do ln -s tritonops "$stage/bin/$link"; done
	cp -R completions LICENSE README.md "$stage/"
	cp -R docs/man "$stage/man"
	tar --sort=name --owner=0 --group=0 --numeric-owner --mtime='2000-01-01 00:00Z' \
		-C "$out" -cf - "$name" | gzip -n >"$out/$name.tar.gz"
	rm -rf "$stage"
done
(cd "$out" && sha256sum -- *.tar.gz >SHA256SUMS && cat SHA256SUMS)
