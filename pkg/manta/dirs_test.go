package manta

import (
	"context"
	"errors"
	"testing"
)

func TestWhatIsKnownIsDoubtedOnlyByWhatBeganLater(t *testing.T) {
	d := newDirCache()
	d.add("/bob/stor/a")
	before := d.now()
	d.add("/bob/stor/a/b")
	d.missing("/bob/stor/a/b", before) // it began before the directory was made
	if !d.known("/bob/stor/a/b") || !d.known("/bob/stor/a") {
		t.Error("an old answer made a new directory unknown")
	}
	d.missing("/bob/stor/a/c", d.now()) // never known: says nothing about its parents
	if !d.known("/bob/stor/a") {
		t.Error("a directory never seen made its parent unknown")
	}
	d.missing("/bob/stor/a/b", d.now())
	if d.known("/bob/stor/a/b") || d.known("/bob/stor/a") {
		t.Error("a directory that vanished, and its parent, are still known")
	}
	if !d.known("/bob/stor") || !d.known("/bob/public") {
		t.Error("the fixed directories must always be known")
	}
	d.add("/bob/stor/x")
	d.add("/bob/stor/x/y")
	d.add("/bob/stor/xy")
	d.forget("/bob/stor/x")
	if d.known("/bob/stor/x/y") || !d.known("/bob/stor/xy") {
		t.Error("forgetting takes what lies below, and only that")
	}
}

func TestARunnerThatWasCancelledIsReplacedByAWaiter(t *testing.T) {
	d := newDirCache()
	running, release := make(chan struct{}), make(chan struct{})
	first := make(chan error, 1)
	go func() {
		first <- d.once(t.Context(), "/p", func() error { close(running); <-release; return context.Canceled })
	}()
	<-running
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	if err := d.once(gone, "/p", func() error { return nil }); !errors.Is(err, context.Canceled) {
		t.Errorf("a waiter whose context ended: %v", err)
	}
	second := make(chan error, 1)
	ran := false
	go func() { second <- d.once(t.Context(), "/p", func() error { ran = true; return nil }) }()
	close(release)
	if err := <-first; !errors.Is(err, context.Canceled) {
		t.Errorf("runner: %v", err)
	}
	if err := <-second; err != nil || !ran {
		t.Errorf("waiter: %v, ran %v", err, ran)
	}
}
