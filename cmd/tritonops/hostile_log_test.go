package main

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/tritonops/tritonops/pkg/backup/store"
	"github.com/tritonops/tritonops/pkg/fail"
)

// damage is what may stand in the place of one object of the log.
type damage struct {
	name, key string
	bad       func(good []byte) []byte
	restores  bool     // all the same
	runs      []string // the way on, "" for none but another release
	says      string
}

const firstRecord = "backup/log/00000000/000000000001.tar.gz"

func damages() []damage {
	record, base, format := "backup/log/00000000/000000000003.tar.gz", "backup/base/000000000001.tar.gz", "backup/format.json"
	newer := archive(map[string]string{"record.json": `{"format":"tritonops-backup","version":2,"kind":"commit","seq":3,"shape":[]}`})
	other := archive(map[string]string{"record.json": `{"format":"tritonops-backup","version":1,"kind":"commit","seq":1,"prev":"","writer":{"instance":"x"}}`})
	return []damage{
		{"newest record cut short", record, half, false, []string{"--full"}, "damaged"},
		{"newest record is garbage", record, garbage, false, []string{"--full"}, "damaged"},
		{"newest record is empty", record, func([]byte) []byte { return nil }, false, []string{"--full"}, "damaged"},
		{"newest record with a path outside", record, func([]byte) []byte {
			return archive(map[string]string{"record.json": `{"format":"tritonops-backup","version":1,"kind":"commit","seq":3,"prev":""}`,
				"entries-000001.jsonl": `{"path":"manifests/../../../escape","size":1,"md5":"","sha256":""}`, "manifests/../../../escape": "x"})
		}, false, []string{"--full", "--take-over"}, "damaged"},
		{"newest record of another number", record, func([]byte) []byte { return other }, false, []string{"--full"}, "damaged"},
		{"newest record of a newer version", record, func([]byte) []byte { return newer }, false, nil, "newer"},
		{"base cut short", base, half, true, []string{}, ""},
		{"base is garbage", base, garbage, true, []string{}, ""},
		{"first record is garbage", firstRecord, garbage, true, []string{}, ""}, // the base stands for it
		{"format is garbage", format, garbage, false, nil, "format.json"},
		{"format cut short", format, half, false, nil, "format.json"},
		{"format of another program", format, func([]byte) []byte { return []byte(`{"format":"tar","version":1}`) }, false, nil, "format.json"},
		{"format of a newer version", format, func([]byte) []byte { return []byte(`{"format":"tritonops-backup","version":9,"x":[]}`) }, false, nil, "newer"},
	}
}

// Whatever stands in the place of the log's objects, it is named, nothing is
// published over it or lost by it, and there is a way on.
func TestADamagedLog(t *testing.T) {
	t.Parallel()
	r := newRig(t, 3).begin()
	st, ctx := r.store(), context.Background()
	want := r.tree(r.data)
	for _, tc := range damages() {
		t.Run(tc.name, func(t *testing.T) {
			r := r.in(t)
			good := r.read(st, tc.key)
			_, err := st.Put(ctx, tc.key, store.Bytes(tc.bad(good)), store.Condition{})
			r.must(err)
			world := r.world()
			into := filepath.Join(filepath.Dir(r.data), "into")
			code, out := r.try("imgapi", "restore", "--yes", "--into", into)
			t.Logf("restore: exit %d\n%s", code, out)
			if tc.restores != (code == 0) || !strings.Contains(out, tc.says) {
				t.Errorf("restore: exit %d, or not %q\n%s", code, tc.says, out)
			}
			if code == 0 {
				r.same("restored", r.tree(into), want)
			}
			r.must(os.RemoveAll(into))
			r.abandon()
			code, out = r.try("imgapi", "backup", "verify", "--deep")
			t.Logf("verify: exit %d\n%s", code, out)
			if code == 0 && tc.key != firstRecord || !strings.Contains(out, tc.says) {
				t.Errorf("verify: exit %d\n%s", code, out)
			}
			code, out = r.try("imgapi", "backup", "run")
			t.Logf("run: exit %d\n%s", code, out)
			if (code == 0) != tc.restores || code == int(fail.Stuck) {
				t.Errorf("run: exit %d\n%s", code, out)
			}
			if tc.runs == nil && code != int(fail.Refused) {
				t.Errorf("run: exit %d, want a refusal\n%s", code, out)
			}
			r.same("around", r.world(), world)
			r.ours()
			if tc.runs != nil { // the way on from the damage itself
				if len(tc.runs) > 0 && !strings.Contains(out, tc.runs[0]) {
					t.Errorf("the way on is not told\n%s", out)
				}
				out = r.run([]int{0}, append([]string{"imgapi", "backup", "run"}, tc.runs...)...)
				t.Logf("run %s: %s", tc.runs, out)
				r.run([]int{0}, "imgapi", "restore", "--yes", "--into", into)
				r.same("restored from after the damage", r.tree(into), want)
				r.must(os.RemoveAll(into))
				r.run([]int{0}, "imgapi", "backup", "run")
			}
			r.replay(st, tc.key, good, len(tc.runs) > 0)
		})
	}
}

// replay puts the good object back; where a run has gone on behind it, the log
// goes on and only the newest states count.
func (r *rig) replay(st store.Store, key string, good []byte, wentOn bool) {
	r.t.Helper()
	ctx := context.Background()
	_, err := st.Put(ctx, key, store.Bytes(good), store.Condition{})
	r.must(err)
	if wentOn { // back to three records
		for info, err := range st.List(ctx, "backup/log/00000000") {
			r.must(err)
			if info.Key > key {
				r.must(st.Delete(ctx, info.Key, store.Condition{}))
			}
		}
		for info, err := range st.List(ctx, "backup/base") {
			r.must(err)
			if info.Key > "backup/base/000000000003" {
				r.must(st.Delete(ctx, info.Key, store.Condition{}))
			}
		}
		r.must(os.RemoveAll(filepath.Join(filepath.Dir(r.data), "tritonops", "backup", "cache.jsonl")))
	}
	r.run([]int{0}, "imgapi", "backup", "run")
	r.deep()
}

func (r *rig) read(st store.Store, key string) []byte {
	r.t.Helper()
	b, _, err := store.Read(context.Background(), st, key, 1<<20)
	r.must(err)
	return b
}

func half(b []byte) []byte  { return b[:len(b)/2] }
func garbage([]byte) []byte { return bytes.Repeat([]byte("\x1b[2J\x00garbage"), 100) }

// archive is a record made by somebody else.
func archive(members map[string]string) []byte {
	var b bytes.Buffer
	gz := gzip.NewWriter(&b)
	tw := tar.NewWriter(gz)
	for _, name := range []string{"record.json", "entries-000001.jsonl", "manifests/../../../escape"} {
		if text, ok := members[name]; ok {
			// The writer's errors are those of a buffer, which has none.
			_ = tw.WriteHeader(&tar.Header{Name: name, Mode: 0o644, Size: int64(len(text)), Format: tar.FormatPAX})
			_, _ = io.WriteString(tw, text)
		}
	}
	_ = tw.Close()
	_ = gz.Close()
	return b.Bytes()
}

// The mirror can be changed by anybody: it is never the truth.
func TestAMirrorChangedByHand(t *testing.T) {
	r := newRig(t, 4).begin()
	st, ctx := r.store(), context.Background()
	var manifests, images []string
	for p := range r.tree(r.data) {
		if strings.HasPrefix(p, "manifests/") {
			manifests = append(manifests, "backup/"+p)
		} else {
			images = append(images, "backup/"+p)
		}
	}
	spoil := func(key string) {
		b := r.read(st, key)
		b[0] ^= 1
		_, err := st.Put(ctx, key, store.Bytes(b), store.Condition{})
		r.must(err)
	}
	spoil(manifests[0])
	r.must(st.Delete(ctx, manifests[1], store.Condition{}))
	_, err := st.Put(ctx, manifests[2], zeros(100<<20), store.Condition{})
	r.must(err)
	_, err = st.Put(ctx, "backup/manifests/01b2c898-945f-11e1-a523-af1afbe22822.raw", store.Bytes("{}"), store.Condition{})
	r.must(err)
	_, err = st.Put(ctx, "backup/manifests/note to self.txt", store.Bytes("do not delete"), store.Condition{})
	r.must(err)
	spoil(images[0])
	r.must(st.Delete(ctx, images[1], store.Condition{}))

	out := r.run([]int{3}, "imgapi", "backup", "verify", "--deep")
	for _, key := range []string{manifests[0], manifests[1], manifests[2], "01b2c898", strings.TrimPrefix(images[0], "backup/"), strings.TrimPrefix(images[1], "backup/")} {
		if !strings.Contains(out, key) {
			t.Errorf("%s is not named\n%s", key, out)
		}
	}
	r.run([]int{0}, "imgapi", "backup", "run", "--verify")
	r.deep()
	if b := r.read(st, "backup/manifests/note to self.txt"); string(b) != "do not delete" {
		t.Errorf("a person's note: %q", b)
	}
}

// Without format.json a log cannot be told from none: the mirror is restored, and
// the next run goes on with the records that are there.
func TestALogWithoutItsFormatFile(t *testing.T) {
	r := newRig(t, 3).begin()
	st := r.store()
	r.must(st.Delete(context.Background(), "backup/format.json", store.Condition{}))
	want := r.tree(r.data)
	into := filepath.Join(filepath.Dir(r.data), "into")
	r.run([]int{0}, "imgapi", "restore", "--yes", "--into", into)
	r.same("restored", r.tree(into), want)
	r.must(os.RemoveAll(into))
	code, out := r.try("imgapi", "backup", "run")
	t.Logf("exit %d\n%s", code, out)
	r.run([]int{0}, "imgapi", "backup", "run")
	r.deep()
	for _, at := range []string{"1", "2"} {
		r.run([]int{0}, "imgapi", "backup", "verify", "--deep", "--at", at)
	}
}
