package integrity

import (
	"context"
	"iter"
	"sync"
)

// Summary counts what a run found.
type Summary struct {
	Checked    int   `json:"checked"` // files looked at, cached ones included
	OK         int   `json:"ok"`
	Cached     int   `json:"cached"`
	Corrupt    int   `json:"corrupt"`
	Missing    int   `json:"missing"`
	Unreadable int   `json:"unreadable"`
	Warnings   int   `json:"warnings"`
	Bytes      int64 `json:"bytes"` // of all files looked at
}

// Faults is the number of files that are not ok.
func (s Summary) Faults() int { return s.Corrupt + s.Missing + s.Unreadable }

func (s *Summary) count(r Result) {
	s.Checked++
	s.Bytes += r.Size
	s.Warnings += len(r.Warnings)
	if r.Cached {
		s.Cached++
	}
	switch r.State {
	case OK:
		s.OK++
	case Corrupt:
		s.Corrupt++
	case Missing:
		s.Missing++
	case Unreadable:
		s.Unreadable++
	}
}

// job is one target on its way; done is closed when result and err are set.
type job struct {
	target Target
	result Result
	err    error
	done   chan struct{}
}

// Run checks all targets, c.Parallel at a time, and calls report for each in the
// order of the targets, from one goroutine. It ends early with the error of ctx or
// of targets; what was reported until then holds.
func (c *Checker) Run(ctx context.Context, targets iter.Seq2[Target, error], report func(Result)) (Summary, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	n := max(c.Parallel, 1)
	work := make(chan *job)
	// The queue bounds how far fast files may run ahead of a slow one.
	queue := make(chan *job, 16*n)
	var feedErr error
	var wg sync.WaitGroup
	for range n {
		wg.Go(func() {
			for j := range work {
				j.result, j.err = c.Check(ctx, j.target)
				close(j.done)
			}
		})
	}
	wg.Go(func() {
		defer close(queue)
		defer close(work)
		feedErr = feed(ctx, targets, work, queue)
	})
	var sum Summary
	var first error
	for j := range queue {
		<-j.done
		if first = j.err; first != nil {
			break
		}
		sum.count(j.result)
		report(j.result)
	}
	cancel()
	for range queue { // let the feeder end
	}
	wg.Wait()
	if first == nil {
		first = feedErr
	}
	return sum, first
}

// feed hands every target to the workers and, in order, to the reporter. A job in
// the queue has always been taken by a worker or is closed with an error.
func feed(ctx context.Context, targets iter.Seq2[Target, error], work, queue chan<- *job) error {
	for t, err := range targets {
		if err != nil {
			return err
		}
		j := &job{target: t, done: make(chan struct{})}
		select {
		case work <- j:
		case <-ctx.Done():
			return ctx.Err()
		}
		select {
		case queue <- j:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}
