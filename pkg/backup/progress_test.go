package backup

import (
	"io"
	"sync"
	"testing"
)

// counter is a Progress that remembers how far each phase came.
type counter struct {
	mu     sync.Mutex
	phases []phaseCount
}

type phaseCount struct {
	name        string
	total, done int64
}

func (c *counter) Phase(name string, total int64, _ string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.phases = append(c.phases, phaseCount{name: name, total: total})
}

func (c *counter) Add(n int64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.phases[len(c.phases)-1].done += n
}

func (c *counter) Note(string) {}

// check wants every phase that knows its end to have come to just there.
func (c *counter) check(t *testing.T) {
	t.Helper()
	for _, p := range c.phases {
		if p.total > 0 && p.done != p.total {
			t.Errorf("%s: %d of %d", p.name, p.done, p.total)
		}
	}
}

func TestProgressComesToItsEndAndNotBeyond(t *testing.T) {
	w := newWorld(t, 6)
	p := &counter{}
	run := func(edit func()) {
		t.Helper()
		edit()
		r := w.runner()
		r.Progress, r.MaxDelete = p, 1
		if _, err := r.Run(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	run(func() {})
	run(func() { w.remove(2) })
	to := newWorld(t, 0)
	for i := range 2 {
		if _, err := Copy(t.Context(), w.st, to.st, CopyOptions{Progress: p}); err != nil {
			t.Fatal(err)
		}
		run(func() { w.remove(3 + i) })
	}
	p.check(t)
}

func TestAnUploadBegunAgainCountsOnce(t *testing.T) {
	w := newWorld(t, 1)
	p := &counter{phases: []phaseCount{{}}}
	f, err := watch(w.inst, "images/"+uuidOf(0)[:3]+"/"+uuidOf(0)+"/file0", p.Add)
	if err != nil {
		t.Fatal(err)
	}
	for range 3 {
		rc, err := f.Open()
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.Copy(io.Discard, rc); err != nil {
			t.Fatal(err)
		}
		if err := rc.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if got := p.phases[0].done; got != f.Size() {
		t.Errorf("counted %d of %d bytes", got, f.Size())
	}
}
