#!/usr/bin/env bash
# The numbers that are promised, measured against the peer in the same run, on one
# lab: manta-sync as the stock scripts run it, and curl. Prints a table; fails only
# when something does not work, never because a machine was slow.
#
# usage: bench.sh TRITONOPS-BINARY          (needs TRITONOPS_PEERS, node, curl, openssl)
#   BENCH_MANIFESTS=10000 BENCH_FILES=1000 BENCH_LARGE=2147483648 BENCH_HUGE=100000
set -euo pipefail

bin=$(realpath "$1")
manifests=${BENCH_MANIFESTS:-10000} files=${BENCH_FILES:-1000}
large=${BENCH_LARGE:-2147483648} huge=${BENCH_HUGE:-100000}
sync=$TRITONOPS_PEERS/.bin/manta-sync
[ -x "$sync" ] || { echo "bench: $sync is missing: run make peers" >&2; exit 2; }
dir=$(mktemp -d "${TMPDIR:-/tmp}/tritonops-bench.XXXXXX")
t() { "$bin" "$@"; }
cleanup() {
  t lab down --dir "$dir/lab" >/dev/null 2>&1 || true
  rm -rf "$dir"
}
trap cleanup EXIT

now() { date +%s.%N; }
# timed VAR COMMAND...: wall seconds of COMMAND into VAR, its peak memory (MiB) into VAR_mem.
timed() {
  local var=$1 start end sampler
  shift
  start=$(now)
  "$@" >"$dir/out" 2>&1 &
  local pid=$!
  sample "$pid" &
  sampler=$!
  wait "$pid" || { echo "bench: '$*' failed:" >&2; tail -20 "$dir/out" >&2; exit 1; }
  end=$(now)
  wait "$sampler"
  printf -v "$var" '%s' "$(awk -v a="$start" -v b="$end" 'BEGIN {printf "%.3f", b - a}')"
  printf -v "${var}_mem" '%s' $(($(cat "$dir/peak") / 1024))
}
# sample PID: its peak resident memory in KiB, as the kernel keeps it, into $dir/peak.
sample() {
  local peak=0 name value
  while [ -e "/proc/$1/status" ]; do
    while read -r name value _; do
      [ "$name" = VmHWM: ] && [ "$value" -gt "$peak" ] && peak=$value
    done 2>/dev/null <"/proc/$1/status" || true
    sleep 0.05
  done
  echo "$peak" >"$dir/peak"
}
requests() { t lab status --dir "$dir/lab" -j | awk -F'[:,]' '/"total"/ {print $2+0; exit}'; }
counted() { # counted VAR COMMAND...: as timed, requests at the lab's Manta into VAR_req
  local var=$1 before
  before=$(requests)
  timed "$@"
  printf -v "${var}_req" '%s' $(($(requests) - before))
}
ratio() { awk -v a="$1" -v b="$2" 'BEGIN {printf "%.1f", (b > 0 ? a / b : 0)}'; }
row() { printf '%-46s %12s %12s %10s   %s\n' "$@"; }

up() { # up NAME: a fresh lab, its instance's environment
  t lab up --dir "$dir/lab" --instances 1 --storage local --detach >/dev/null
  eval "$(t lab env --dir "$dir/lab" --instance images0)"
  data=$TRITONOPS_ROOT/data/imgapi
  root=/$MANTA_USER/stor/peer
}
down() { t lab down --dir "$dir/lab" >/dev/null; rm -rf "$dir/lab"; }
wipe() { rm -rf "${data:?}/manifests" "$data/images" "$TRITONOPS_ROOT/data/tritonops"; }
peer() { "$sync" "$@"; }

row measured "tritonops" "peer" ratio promise
up
t lab seed --dir "$dir/lab" --images "$manifests" --files 0 >/dev/null
t imgapi restore --yes >/dev/null 2>&1
counted ours_first "$bin" imgapi backup run
counted peer_first peer -p 50 "$data/manifests" "$root/manifests"
row "first backup, $manifests manifests, s" "$ours_first" "$peer_first" "$(ratio "$peer_first" "$ours_first")" ">= 6 (manta-sync -p 50)"
rm -rf "$dir/away" && mkdir "$dir/away"
counted peer_back peer -r -p 50 "$root/manifests" "$dir/away/manifests"
wipe
counted ours_back "$bin" imgapi restore --yes --no-restart
row "restore, $manifests manifests, s" "$ours_back" "$peer_back" "$(ratio "$peer_back" "$ours_back")" ">= 10"
mem_small=$ours_first_mem
down

up
t lab seed --dir "$dir/lab" --images "$manifests" --files "$files" >/dev/null
t imgapi restore --yes >/dev/null 2>&1
t imgapi backup run >/dev/null 2>&1
peer "$data/images" "$root/images" >/dev/null 2>&1
peer "$data/manifests" "$root/manifests" >/dev/null 2>&1
sleep 3
t imgapi backup run >/dev/null 2>&1 # files younger than 2 s at their hashing are read once more
both() { peer "$data/images" "$root/images" && peer "$data/manifests" "$root/manifests"; }
counted ours_none "$bin" imgapi backup run
counted peer_none both
row "nothing changed, $manifests + $files files, s" "$ours_none" "$peer_none" "$(ratio "$peer_none" "$ours_none")" ">= 20 (manta-sync)"
row "nothing changed, requests" "$ours_none_req" "$peer_none_req" "$(ratio "$peer_none_req" "$ours_none_req")" ">= 50"
down

up
t lab seed --dir "$dir/lab" --images 1 --files 1 >/dev/null
t imgapi restore --yes >/dev/null 2>&1
file=$(find "$data/images" -name file0) manifest=$(find "$data/manifests" -name '*.raw')
head -c "$large" /dev/urandom >"$file"
sha1=$(sha1sum "$file" | cut -d' ' -f1) md5=$(openssl md5 -binary "$file" | openssl base64)
sed -i -e "s|\"sha1\": \"[0-9a-f]*\"|\"sha1\": \"$sha1\"|" -e "s|\"size\": [0-9]*|\"size\": $large|" -e "s|\"contentMD5\": \"[^\"]*\"|\"contentMD5\": \"$md5\"|" "$manifest"
key=$(find -L "$HOME/.ssh" -type f ! -name '*.pub' ! -name known_hosts | head -1)
put() {
  local date sig
  date=$(LC_ALL=C date -u '+%a, %d %b %Y %H:%M:%S GMT')
  sig=$(printf 'date: %s' "$date" | openssl dgst -sha256 -sign "$dir/key" | openssl base64 -A)
  curl -fsSk -T "$file" -H "Date: $date" \
    -H "Authorization: Signature keyId=\"/$MANTA_USER/keys/$md5id\",algorithm=\"$alg-sha256\",headers=\"date\",signature=\"$sig\"" "$MANTA_URL/$MANTA_USER/stor/curl.bin"
}
cp "$key" "$dir/key" && chmod 600 "$dir/key" && ssh-keygen -q -p -m PEM -N '' -f "$dir/key" # openssl reads no OpenSSH keys
md5id=$(ssh-keygen -E md5 -lf "$key" | awk '{print $2}' | cut -c5-)
alg=$(ssh-keygen -lf "$key" | awk '{print tolower($NF)}' | tr -d '()')
put # warm
timed peer_large put
timed ours_large "$bin" imgapi backup run
row "one file of $((large >> 20)) MiB, s" "$ours_large" "$peer_large" "$(ratio "$peer_large" "$ours_large")" ">= 0.9 (curl -T)"
row "  its peak memory, MiB" "$ours_large_mem" "-" "-" "< 100"
down

up
t lab seed --dir "$dir/lab" --images "$huge" --files 0 >/dev/null
t imgapi restore --yes >/dev/null 2>&1
timed huge_first "$bin" imgapi backup run
timed huge_none "$bin" imgapi backup run
wipe
timed huge_back "$bin" imgapi restore --yes --no-restart
row "peak memory, MiB: first backup, $manifests / $huge" "$mem_small" "$huge_first_mem" "-" "< 100, flat"
row "peak memory, MiB: nothing changed / restore, $huge" "$huge_none_mem" "$huge_back_mem" "-" "< 100"
row "time, s: first backup / restore, $huge" "$huge_first" "$huge_back" "-" ""
down

median() { # median of 21 runs, ms
  for _ in $(seq 21); do
    local s
    s=$(date +%s%N)
    "$@" >/dev/null 2>&1
    echo $((($(date +%s%N) - s) / 10000))
  done | sort -n | awk 'NR == 11 {printf "%.1f", $1 / 100}'
}
row "tritonops version, median ms" "$(median t version)" "-" "-" "< 10"
row "completion, median ms" "$(median t __complete imgapi backup '')" "-" "-" "< 10"
