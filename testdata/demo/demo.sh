#!/usr/bin/env bash
# The main story, on a lab that this script brings up and takes down: an operator
# backs a standalone IMGAPI up to Manta, loses the disk, and gets every manifest
# and image file back. Exits 0 only if every step proved itself.
#
# usage: demo.sh TRITONOPS-BINARY [IMAGES]
set -euo pipefail

bin=$(realpath "$1")
images=${2:-60}
lab=$(mktemp -d "${TMPDIR:-/tmp}/tritonops-demo.XXXXXX")
t() { "$bin" "$@"; }

cleanup() {
  local code=$?
  t lab down --dir "$lab" >/dev/null 2>&1 || true
  if [ "$code" -eq 0 ]; then rm -rf "$lab"; else echo "demo: FAILED (exit $code); the lab's files are in $lab" >&2; fi
  exit "$code"
}
trap cleanup EXIT

step() { printf '\n== %s\n' "$*"; }
proved() { printf '   proved: %s\n' "$*"; }
fail() { printf '   NOT PROVED: %s\n' "$*" >&2; exit 1; }
# expect CODE COMMAND...: the exit code is part of the proof.
expect() {
  local want=$1 got=0
  shift
  "$@" || got=$?
  [ "$got" -eq "$want" ] || fail "'$*' ended with $got, not $want"
}
# Every manifest and image file with its SHA-256; leftovers of uploads are no data.
digest() { (cd "$1" && find manifests images -type f ! -name 'file0.*' -print0 | sort -z | xargs -0 sha256sum); }

step "a lab: Manta and a standalone IMGAPI on loopback, $images images"
t lab up --dir "$lab" --instances 1 --detach
eval "$(t lab env --dir "$lab" --instance images0)"
t lab seed --dir "$lab" --images "$images"
data=$TRITONOPS_ROOT/data/imgapi
[ "$(find "$data/manifests" -name '*.raw' | wc -l)" -ge "$images" ] || fail "the seed made fewer than $images manifests"

step "status before the first restore: faults, and backups are refused"
expect 3 t imgapi status
expect 4 t imgapi backup run
proved "an instance that never restored cannot replace the backup"

step "the first restore: the store is empty, so it only marks"
t imgapi restore --yes
digest "$data" >"$lab/seeded.sha256"

step "the first backup"
t imgapi backup run
expect 3 t imgapi status
proved "status names the stock backup's cron line, which would change the mirror behind the log"
sed -i 's|^\(.*\)/opt/smartdc/imgapi/bin/imgapi-standalone-backup -y|\1tritonops imgapi backup run -q|' "$TRITONOPS_ROOT/var/spool/cron/crontabs/root"
expect 0 t imgapi status -v
proved "with our line in its place status is clean"

step "an edit that keeps the size: what manta-sync never sends"
edited=$(find "$data/manifests" -name '*.raw' | sort | head -1)
before=$(date -u +%Y-%m-%dT%H:%M:%SZ)
sleep 2
size=$(stat -c %s "$edited")
sed -i 's/"version": "\(.*\)\(.\)",$/"version": "\1X",/' "$edited"
[ "$(stat -c %s "$edited")" = "$size" ] || fail "the edit changed the size"
digest "$data" >"$lab/edited.sha256"
cmp -s "$lab/seeded.sha256" "$lab/edited.sha256" && fail "the edit changed nothing"
t imgapi backup run -o json | tee "$lab/run.json" | grep -E '"(generation|changed|deleted)"'
grep -q '"changed": 1,' "$lab/run.json" || fail "the edit was not saved"
proved "one entry saved, size unchanged"

step "deep verify: every byte in the store is read and hashed"
t imgapi backup verify --deep
t imgapi backup list

step "the disk is lost"
rm -rf "${data:?}"/manifests "$data"/images "$data"/archive "$data"/run "$TRITONOPS_ROOT"/data/tritonops
expect 4 t imgapi backup run
proved "the empty disk cannot empty the backup"

step "restore"
t imgapi restore --yes
digest "$data" >"$lab/restored.sha256"
diff "$lab/edited.sha256" "$lab/restored.sha256" || fail "the data differs from what was lost"
proved "$(wc -l <"$lab/restored.sha256") files are back, each with its SHA-256"
t imgapi backup verify --deep
t imgapi check-files

step "restore to the moment before the edit"
t imgapi restore --at "$before" --yes
digest "$data" >"$lab/at.sha256"
diff "$lab/seeded.sha256" "$lab/at.sha256" || fail "the data differs from what it was then"
proved "the edit is undone, the later moment stays in the list"
t imgapi backup run
t imgapi backup list
expect 0 t imgapi status

printf '\ndemo: every step proved itself\n'
