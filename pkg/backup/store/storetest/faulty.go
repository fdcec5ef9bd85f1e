package storetest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"sync"
	"time"

	"github.com/tritonops/tritonops/pkg/backup/store"
)

// Kind names an operation of a store.
type Kind string

// The operations of [store.Store].
const (
	Put    Kind = "put"
	Get    Kind = "get"
	Head   Kind = "head"
	Delete Kind = "delete"
	List   Kind = "list"
	Now    Kind = "now"
)

// ErrInjected is wrapped by every error that a fault makes up.
var ErrInjected = errors.New("injected fault")

// Op is one operation about to be done.
type Op struct {
	Kind  Kind
	Key   string // or the directory of a List, "" for Now
	Cond  store.Condition
	N     int // how many of this kind there have been, this one included
	Total int // how many operations there have been, this one included
}

// Fault says what goes wrong with an operation. The zero value is nothing.
type Fault struct {
	// Delay comes first. A context that ends meanwhile ends the operation.
	Delay time.Duration
	// Fail ends the operation before it reaches the store.
	Fail error
	// LoseAnswer does the operation and then says that its answer was lost:
	// [store.ErrUnknownOutcome] if it had a condition, a plain error otherwise.
	LoseAnswer bool
	// Corrupt makes the reader of a Get give one wrong byte, and at the end
	// [store.ErrCorrupt] as the port demands.
	Corrupt bool
	// Truncate makes the reader of a Get end half way with io.ErrUnexpectedEOF, and
	// a List half way (rounded down) with an error.
	Truncate bool
}

// Hook decides about one operation. It may be called by many goroutines at once
// and may block.
type Hook func(Op) Fault

// FaultyStore is a store that goes wrong as its hook says and counts what was
// asked of it.
type FaultyStore struct {
	store.Store
	hook Hook

	mu     sync.Mutex // guards what follows
	counts map[Kind]int
	total  int
	ops    []Op
}

// Faulty wraps s. A nil hook only counts.
func Faulty(s store.Store, hook Hook) *FaultyStore {
	return &FaultyStore{Store: s, hook: hook, counts: map[Kind]int{}}
}

// SetHook replaces the hook from the next operation on.
func (f *FaultyStore) SetHook(hook Hook) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.hook = hook
}

// Count returns how many operations of a kind there were.
func (f *FaultyStore) Count(kind Kind) int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.counts[kind]
}

// Total returns how many operations there were.
func (f *FaultyStore) Total() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.total
}

// Ops returns all operations in the order in which they came.
func (f *FaultyStore) Ops() []Op {
	f.mu.Lock()
	defer f.mu.Unlock()
	return append([]Op(nil), f.ops...)
}

// Reset forgets the operations so far.
func (f *FaultyStore) Reset() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.counts, f.total, f.ops = map[Kind]int{}, 0, nil
}

// begin counts an operation and lets the fault delay or end it.
func (f *FaultyStore) begin(ctx context.Context, kind Kind, key string, cond store.Condition) (Fault, error) {
	f.mu.Lock()
	f.counts[kind]++
	f.total++
	op := Op{Kind: kind, Key: key, Cond: cond, N: f.counts[kind], Total: f.total}
	f.ops = append(f.ops, op)
	hook := f.hook
	f.mu.Unlock()
	if hook == nil {
		return Fault{}, nil
	}
	fault := hook(op)
	if fault.Delay > 0 {
		select {
		case <-time.After(fault.Delay):
		case <-ctx.Done():
			return fault, ctx.Err()
		}
	}
	if fault.Fail != nil {
		return fault, fmt.Errorf("%s: %w", key, fault.Fail)
	}
	return fault, nil
}

// lost is what the caller of an operation with a lost answer gets.
func lost(key string, cond store.Condition) error {
	if cond.Unconditional() {
		return fmt.Errorf("%s: answer lost: %w", key, ErrInjected)
	}
	return fmt.Errorf("%s: %w: %w", key, store.ErrUnknownOutcome, ErrInjected)
}

// Put implements [store.Store].
func (f *FaultyStore) Put(ctx context.Context, key string, src store.Source, cond store.Condition) (store.Info, error) {
	fault, err := f.begin(ctx, Put, key, cond)
	if err != nil {
		return store.Info{}, err
	}
	info, err := f.Store.Put(ctx, key, src, cond)
	if err == nil && fault.LoseAnswer {
		return store.Info{}, lost(key, cond)
	}
	return info, err
}

// Delete implements [store.Store].
func (f *FaultyStore) Delete(ctx context.Context, key string, cond store.Condition) error {
	fault, err := f.begin(ctx, Delete, key, cond)
	if err != nil {
		return err
	}
	if err = f.Store.Delete(ctx, key, cond); err == nil && fault.LoseAnswer {
		return lost(key, cond)
	}
	return err
}

// Head implements [store.Store].
func (f *FaultyStore) Head(ctx context.Context, key string) (store.Info, error) {
	fault, err := f.begin(ctx, Head, key, store.Condition{})
	if err != nil {
		return store.Info{}, err
	}
	info, err := f.Store.Head(ctx, key)
	if err == nil && fault.LoseAnswer {
		return store.Info{}, lost(key, store.Condition{})
	}
	return info, err
}

// Now implements [store.Store].
func (f *FaultyStore) Now(ctx context.Context) (time.Time, error) {
	fault, err := f.begin(ctx, Now, "", store.Condition{})
	if err != nil {
		return time.Time{}, err
	}
	t, err := f.Store.Now(ctx)
	if err == nil && fault.LoseAnswer {
		return time.Time{}, lost("clock", store.Condition{})
	}
	return t, err
}

// Get implements [store.Store].
func (f *FaultyStore) Get(ctx context.Context, key string) (io.ReadCloser, store.Info, error) {
	fault, err := f.begin(ctx, Get, key, store.Condition{})
	if err != nil {
		return nil, store.Info{}, err
	}
	rc, info, err := f.Store.Get(ctx, key)
	if err != nil {
		return nil, info, err
	}
	if fault.LoseAnswer {
		rc.Close()
		return nil, store.Info{}, lost(key, store.Condition{})
	}
	if fault.Corrupt || fault.Truncate {
		return &faultyReader{ReadCloser: rc, key: key, fault: fault, size: info.Size}, info, nil
	}
	return rc, info, nil
}

// List implements [store.Store].
func (f *FaultyStore) List(ctx context.Context, dir string) iter.Seq2[store.Info, error] {
	return func(yield func(store.Info, error) bool) {
		fault, err := f.begin(ctx, List, dir, store.Condition{})
		if err == nil && fault.LoseAnswer {
			err = lost(dir, store.Condition{})
		}
		if err != nil {
			yield(store.Info{}, err)
			return
		}
		if fault.Truncate {
			f.cutList(ctx, dir, yield)
			return
		}
		f.Store.List(ctx, dir)(yield)
	}
}

// cutList yields the first half of a listing and then an error.
func (f *FaultyStore) cutList(ctx context.Context, dir string, yield func(store.Info, error) bool) {
	var all []store.Info
	for info, err := range f.Store.List(ctx, dir) {
		if err != nil {
			yield(store.Info{}, err)
			return
		}
		all = append(all, info)
	}
	for _, info := range all[:len(all)/2] {
		if !yield(info, nil) {
			return
		}
	}
	yield(store.Info{}, fmt.Errorf("%s: listing cut short: %w", dir, ErrInjected))
}

// faultyReader spoils what it reads.
type faultyReader struct {
	io.ReadCloser
	key   string
	fault Fault
	size  int64
	n     int64
}

// Read gives wrong or too few bytes, and never io.EOF.
func (r *faultyReader) Read(p []byte) (int, error) {
	if r.fault.Truncate {
		if p = p[:min(int64(len(p)), r.size/2-r.n)]; len(p) == 0 {
			return 0, fmt.Errorf("%s: %w: %w", r.key, io.ErrUnexpectedEOF, ErrInjected)
		}
	}
	n, err := r.ReadCloser.Read(p)
	if r.fault.Corrupt && r.n == 0 && n > 0 {
		p[0] ^= 0x20
	}
	r.n += int64(n)
	if err == io.EOF {
		err = fmt.Errorf("%s: %w: %w", r.key, store.ErrCorrupt, ErrInjected)
	}
	return n, err
}

// FailNth fails the nth operation of a kind.
func FailNth(kind Kind, n int, err error) Hook {
	return Nth(kind, n, Fault{Fail: err})
}

// FailFrom fails the nth operation of any kind and every one after it: the
// process died there, or the store did.
func FailFrom(n int, err error) Hook {
	return func(op Op) (f Fault) {
		if op.Total >= n {
			f.Fail = err
		}
		return f
	}
}

// LoseNth loses the answer of the nth operation of a kind.
func LoseNth(kind Kind, n int) Hook { return Nth(kind, n, Fault{LoseAnswer: true}) }

// Nth injects a fault into the nth operation of a kind.
func Nth(kind Kind, n int, fault Fault) Hook {
	return func(op Op) (f Fault) {
		if op.Kind == kind && op.N == n {
			f = fault
		}
		return f
	}
}

// Keys injects a fault into every operation of a kind on a key that match says
// yes to.
func Keys(kind Kind, match func(key string) bool, fault Fault) Hook {
	return func(op Op) (f Fault) {
		if op.Kind == kind && match(op.Key) {
			f = fault
		}
		return f
	}
}

// First asks hooks in turn and takes the first fault that is not nothing.
func First(hooks ...Hook) Hook {
	return func(op Op) Fault {
		for _, hook := range hooks {
			if f := hook(op); f != (Fault{}) {
				return f
			}
		}
		return Fault{}
	}
}
