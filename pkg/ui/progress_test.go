package ui

import (
	"bytes"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

func TestProgressOffATerminalIsALineEveryFewSecondsAndOneAtTheEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var errs bytes.Buffer
		u := New(Config{Out: &bytes.Buffer{}, Err: &errs})
		p := u.NewProgress()
		p.Phase("upload", 400, "files")
		time.Sleep(time.Second / 2) // so that no tick falls together with an Add
		for range 12 {
			p.Add(10)
			time.Sleep(time.Second)
		}
		p.Note("one file is \x1bskipped")
		p.Phase("hash", 0, "bytes")
		p.Add(3 << 20)
		time.Sleep(2 * time.Second)
		p.Close()
		want := `upload: 50 of 400 files (12%), 10/s, 35s left
upload: 100 of 400 files (25%), 10/s, 30s left
one file is \x1bskipped
upload: 120 of 400 files (30%), 9.6/s, 29s left
hash: 3.0 MiB, 1.5 MiB/s
`
		if errs.String() != want {
			t.Errorf("got\n%swant\n%s", &errs, want)
		}
	})
}

func TestQuietProgressSaysNothing(t *testing.T) {
	_, tt := openTTY(t)
	for name, c := range map[string]Config{"pipe": {Err: &bytes.Buffer{}}, "terminal": {Err: tt.out}} {
		u := New(c)
		u.Set(Settings{Quiet: true})
		p := u.NewProgress()
		p.Phase("x", 1, "files")
		p.Add(1)
		p.Note("note")
		p.Close()
		if b, ok := c.Err.(*bytes.Buffer); ok && b.Len() > 0 {
			t.Errorf("%s: %q", name, b)
		}
		if _, ok := p.draw.(silent); !ok {
			t.Errorf("%s: draws with %T", name, p.draw)
		}
	}
}

func TestProgressOnATerminalIsABarWithRateAndNotes(t *testing.T) {
	o, tt := openTTY(t)
	u := New(Config{Err: tt.out})
	p := u.NewProgress()
	p.Phase("upload", 100, "files")
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for range 25 {
				p.Add(1)
				time.Sleep(4 * time.Millisecond)
			}
		})
	}
	p.Note("retried one")
	wg.Wait()
	p.Phase("verify", 0, "bytes")
	p.Add(5 << 20)
	p.Phase("stopped early", 10, "files")
	p.Add(1)
	p.Close()
	time.Sleep(50 * time.Millisecond)
	for _, want := range []string{"upload  [", "100 of 100 files (100%)", "/s", "retried one", "verify", "5.0 MiB", "stopped early", "1 of 10 files (10%)"} {
		if !strings.Contains(o.text(), want) {
			t.Errorf("never showed %q", want)
		}
	}
	if t.Failed() {
		t.Logf("screen: %q", o.text())
	}
}

func TestMoreWorkThanAnnouncedIsStillCounted(t *testing.T) {
	o, tt := openTTY(t)
	u := New(Config{Err: tt.out})
	p := u.NewProgress()
	p.Phase("upload", 2, "files")
	for range 5 {
		p.Add(1)
	}
	p.Close()
	time.Sleep(50 * time.Millisecond)
	if !strings.Contains(o.text(), "5 of 2 files (100%)") {
		t.Errorf("screen: %q", o.text())
	}
}

func TestProgressCanBeClosedWithoutAPhaseAndTwice(t *testing.T) {
	_, tt := openTTY(t)
	for _, c := range []Config{{Err: &bytes.Buffer{}}, {Err: tt.out}} {
		p := New(c).NewProgress()
		p.Close()
		p.Add(1)
		p.Note("late")
		p.Close()
	}
}
