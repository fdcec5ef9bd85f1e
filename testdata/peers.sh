#!/bin/bash
# Fetches the real programs that tests compare tritonops with: npm's manta
# tools into DIR, and as root on a Debian the few system tools that are
# missing. What it cannot fetch it names; the tests that need it then skip.
set -euo pipefail

dir=${1:?usage: peers.sh DIR}
declare -A package=([tmux]=tmux [curl]=curl [xz]=xz-utils [ssh-agent]=openssh-client [bash]=bash)

missing=()
for tool in "${!package[@]}"; do
	command -v "$tool" >/dev/null || missing+=("${package[$tool]}")
done
if ((${#missing[@]})); then
	if [[ $(id -u) == 0 ]] && command -v apt-get >/dev/null; then
		echo "peers: installing ${missing[*]}" >&2
		DEBIAN_FRONTEND=noninteractive apt-get install -y -q "${missing[@]}" >&2 ||
			{ apt-get update -q >&2 && DEBIAN_FRONTEND=noninteractive apt-get install -y -q "${missing[@]}" >&2; } ||
			echo "peers: could not install ${missing[*]}; the tests that need them skip" >&2
	else
		echo "peers: missing: ${missing[*]}; install them, or the tests that need them skip" >&2
	fi
fi

manta=5.4.2 sync=0.4.2
stamp=$dir/manta-$manta-sync-$sync
[[ -e $stamp ]] && exit 0
if ! command -v npm >/dev/null; then
	echo "peers: npm is missing; install nodejs and npm, or the tests with manta's own tools skip" >&2
	exit 0
fi
mkdir -p "$dir"
if npm install --prefix "$dir" --no-save --no-audit --no-fund --no-package-lock --ignore-scripts \
	"manta@$manta" "manta-sync@$sync" >"$dir/npm.log" 2>&1; then
	# The package keeps its tools in a directory that npm does not link.
	for tool in "$dir"/node_modules/manta/bin/*; do
		ln -sf "../manta/bin/${tool##*/}" "$dir/node_modules/.bin/${tool##*/}"
	done
	touch "$stamp"
else
	tail -5 "$dir/npm.log" >&2
	echo "peers: npm could not fetch manta@$manta and manta-sync@$sync; the tests that need them skip" >&2
fi
