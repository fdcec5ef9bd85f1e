package rest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync/atomic"
	"time"
)

// guard cancels a request when nothing moves for its limit. It is armed only
// while the network is waited for, so that a slow reader is not blamed on the
// server.
type guard struct {
	ctx     context.Context
	cancel  context.CancelCauseFunc
	limit   time.Duration
	timer   *time.Timer
	stalled atomic.Bool
}

func newGuard(ctx context.Context, limit time.Duration) *guard {
	g := &guard{limit: limit}
	g.ctx, g.cancel = context.WithCancelCause(ctx)
	g.timer = time.AfterFunc(limit, func() {
		g.stalled.Store(true)
		g.cancel(ErrStalled)
	})
	return g
}

func (g *guard) arm()    { g.timer.Reset(g.limit) }
func (g *guard) disarm() { g.timer.Stop() }

// explain replaces "context canceled" by what happened.
func (g *guard) explain(err error) error {
	if err == nil || !g.stalled.Load() {
		return err
	}
	stalled := fmt.Errorf("%w: nothing arrived for %s", ErrStalled, g.limit)
	var e *Error
	if errors.As(err, &e) {
		c := *e
		c.Err, c.passing = fmt.Errorf("%w: %w", ErrUnavailable, stalled), true
		return &c
	}
	return stalled
}

// guarded is a body under a guard.
type guarded struct {
	rc io.ReadCloser
	g  *guard
}

// Read waits at most the stall time for a byte.
func (b *guarded) Read(p []byte) (int, error) {
	if b.g.stalled.Load() {
		return 0, b.g.explain(context.Canceled)
	}
	b.g.arm()
	n, err := b.rc.Read(p)
	b.g.disarm()
	if err != nil && err != io.EOF {
		err = b.g.explain(err)
	}
	return n, err
}

// Close ends the request.
func (b *guarded) Close() error {
	b.g.disarm()
	err := b.rc.Close()
	b.g.cancel(nil)
	return err
}
