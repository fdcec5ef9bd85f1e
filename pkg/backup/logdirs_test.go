package backup

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/tritonops/tritonops/pkg/backup/store"
)

// TestTheLogGoesOnInTheNextDirectory starts a log right before a boundary.
func TestTheLogGoesOnInTheNextDirectory(t *testing.T) {
	w := newWorld(t, 0)
	ctx := context.Background()
	dir := tempDir(t)
	pos := Position{Seq: recordsPerDir - 2}
	log := w.log()
	for i := range 4 {
		body := []byte(fmt.Sprint("keys ", i))
		e := inlineEntry(fmt.Sprintf("etc/authkeys/local/k%d.keys", i), body)
		c := Changes{Puts: []Entry{e}, Full: i == 0}
		var err error
		pos, err = log.Append(ctx, pos, Header{Kind: KindCommit}, 0, time.Now(), c, func(Entry) ([]byte, error) { return body, nil }, dir)
		w.must(err)
		if got := w.log().HeadSeq(); got != pos.Seq {
			t.Fatalf("after record %d the log ends at %d", pos.Seq, got)
		}
	}
	// A directory whose first record never came, and things that are not ours.
	w.put(recordDir(5*recordsPerDir)+"/note", "hi")
	w.put(logDir+"/README", "hi")
	log = w.log()
	if log.HeadSeq() != recordsPerDir+2 {
		t.Errorf("the log ends at %d", log.HeadSeq())
	}
	got, err := log.StateAt(ctx, log.HeadSeq(), nil)
	if err != nil || got.State.Len() != 4 || got.SHA256 != pos.SHA256 {
		t.Errorf("%v %d entries", err, got.State.Len())
	}
	// A gap: what is behind it can be read, what needs it cannot.
	w.must(w.st.Delete(ctx, recordKey(recordsPerDir), store.Condition{}))
	if _, err := log.StateAt(ctx, recordsPerDir+1, nil); !damage(err) {
		t.Errorf("read across a gap: %v", err)
	}
	if got, err := log.StateAt(ctx, recordsPerDir-1, nil); err != nil || got.State.Len() != 1 {
		t.Errorf("%v", err)
	}
}
