package fault

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"hash/fnv"
	"io"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// Request is what faults are matched against.
type Request struct {
	Service, Instance, Method string
	Path                      string // decoded
}

// State is a fault with its counts.
type State struct {
	Fault
	Seen int  `json:"seen"` // matching requests so far
	Hits int  `json:"hits"` // requests met
	Done bool `json:"done"` // Count or For is used up
}

// KindHelp is one line of the list of kinds.
type KindHelp struct {
	Kind Kind   `json:"kind"`
	Help string `json:"help"`
}

// Set is the faults in force. Its methods are safe for concurrent use; a nil Set
// is empty.
type Set struct {
	mu     sync.Mutex
	seed   uint64
	now    func() time.Time
	kinds  map[Kind]kindInfo
	faults []*active
	next   int
	size   atomic.Int64 // len(faults), so that a lab without faults pays no lock
}

type active struct {
	State
	info  kindInfo
	dice  *rand.Rand
	until time.Time
}

// NewSet returns an empty set whose dice depend on seed alone. extra are flags of
// services outside this package, with one line of help each, so that they can be
// validated and listed too.
func NewSet(seed uint64, extra ...KindHelp) *Set {
	s := &Set{seed: seed, now: time.Now, kinds: builtin()}
	for _, k := range extra {
		s.kinds[k.Kind] = kindInfo{class: flag, help: k.Help}
	}
	return s
}

// Kinds lists the kinds the set knows, by name.
func (s *Set) Kinds() []KindHelp {
	var list []KindHelp
	for _, n := range kindNames(s.kinds) {
		list = append(list, KindHelp{Kind(n), s.kinds[Kind(n)].help})
	}
	return list
}

// Add puts a fault in force and returns it with its ID.
func (s *Set) Add(f Fault) (Fault, error) {
	if err := f.validate(s.kinds); err != nil {
		return Fault{}, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if f.ID == "" {
		f.ID = s.freeID()
	} else if s.find(f.ID) >= 0 {
		return Fault{}, fmt.Errorf("fault %s: already there", f.ID)
	}
	s.faults = append(s.faults, s.activate(State{Fault: f}))
	s.size.Store(int64(len(s.faults)))
	return f, nil
}

func (s *Set) freeID() string {
	for {
		s.next++
		if id := fmt.Sprintf("f%d", s.next); s.find(id) < 0 {
			return id
		}
	}
}

func (s *Set) find(id string) int {
	return slices.IndexFunc(s.faults, func(a *active) bool { return a.ID == id })
}

func (s *Set) activate(st State) *active {
	a := &active{State: st, info: s.kinds[st.Kind]}
	seed := st.Seed
	if seed == 0 {
		h := fnv.New64a()
		_, _ = io.WriteString(h, st.ID) // a hash never fails
		seed = s.seed ^ h.Sum64()
	}
	a.dice = rand.New(rand.NewPCG(seed, seed))
	if st.For > 0 {
		a.until = s.now().Add(time.Duration(st.For))
	}
	return a
}

// List returns the faults in the order of adding.
func (s *Set) List() []State {
	if s == nil {
		return nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	list := make([]State, 0, len(s.faults))
	for _, a := range s.faults {
		st := a.State
		st.Done = a.done(s.now())
		list = append(list, st)
	}
	return list
}

// Remove takes a fault out of force and says whether it was there.
func (s *Set) Remove(id string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	i := s.find(id)
	if i < 0 {
		return false
	}
	s.faults = slices.Delete(s.faults, i, i+1)
	s.size.Store(int64(len(s.faults)))
	return true
}

// Clear removes every fault and returns how many there were.
func (s *Set) Clear() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := len(s.faults)
	s.faults = nil
	s.size.Store(0)
	return n
}

func (a *active) done(now time.Time) bool {
	return a.Count > 0 && a.Hits >= a.Count || !a.until.IsZero() && !now.Before(a.until)
}

// meets rolls the dice for one matching request and counts it.
func (a *active) meets(now time.Time) bool {
	if a.done(now) {
		return false
	}
	a.Seen++
	if a.Seen <= a.Skip {
		return false
	}
	if a.Probability > 0 && a.dice.Float64() >= a.Probability {
		return false
	}
	a.Hits++
	return true
}

// Match returns the faults that meet the request and uses them up: at most one
// of the kinds that decide the answer, and every other.
func (s *Set) Match(r Request) []Fault {
	if s == nil || s.size.Load() == 0 {
		return nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	var met []Fault
	ended := false
	now := s.now()
	for _, a := range s.faults {
		decides := a.info.class == ending || a.info.class == network
		if decides && ended || !a.matches(r, a.info) || !a.meets(now) {
			continue
		}
		ended = ended || decides
		met = append(met, a.Fault)
	}
	return met
}

// refuses says whether a partition of the whole service is in force. A new
// connection uses it up, an open one does not; a partition left to chance meets
// new connections only.
func (s *Set) refuses(service, instance string, use bool) bool {
	if s == nil || s.size.Load() == 0 {
		return false
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	now := s.now()
	for _, a := range s.faults {
		if a.Kind != Partition || a.Path != "" || a.Method != "" {
			continue
		}
		if a.Service != "" && a.Service != service || a.Instance != "" && a.Instance != instance {
			continue
		}
		if use && a.meets(now) || !use && a.Seen >= a.Skip && a.Probability == 0 && !a.done(now) {
			return true
		}
	}
	return false
}

// refund gives back one use of a fault that found nothing to spoil.
func (s *Set) refund(id string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if i := s.find(id); i >= 0 && s.faults[i].Hits > 0 {
		s.faults[i].Hits--
	}
}

// MarshalJSON writes the faults and their counts.
func (s *Set) MarshalJSON() ([]byte, error) {
	list := s.List()
	if list == nil {
		list = []State{}
	}
	return json.Marshal(struct {
		Faults []State `json:"faults"`
	}{list})
}

// UnmarshalJSON replaces the faults by those of a document that MarshalJSON wrote
// or a person did. Unknown fields are errors: a misspelt one would be a fault
// other than the one meant. Counts are kept, dice start anew.
func (s *Set) UnmarshalJSON(b []byte) error {
	var doc struct {
		Faults []State `json:"faults"`
	}
	if err := strict(b, &doc); err != nil {
		return fmt.Errorf("faults: %w", err)
	}
	if s.kinds == nil {
		s.kinds, s.now = builtin(), time.Now
	}
	seen := map[string]bool{}
	for i, f := range doc.Faults {
		if err := f.validate(s.kinds); err != nil {
			return fmt.Errorf("faults[%d]: %w", i, err)
		}
		if f.Seen < 0 || f.Hits < 0 {
			return fmt.Errorf("faults[%d]: negative count", i)
		}
		if f.ID == "" || seen[f.ID] {
			return fmt.Errorf("faults[%d]: id %q is missing or used twice", i, f.ID)
		}
		seen[f.ID] = true
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.faults = nil
	for _, st := range doc.Faults {
		st.Done = false
		s.faults = append(s.faults, s.activate(st))
	}
	s.size.Store(int64(len(s.faults)))
	return nil
}

// Parse reads one fault from JSON. The set checks its values on Add.
func Parse(b []byte) (Fault, error) {
	var f Fault
	if err := strict(b, &f); err != nil {
		return Fault{}, fmt.Errorf("fault: %w", err)
	}
	return f, nil
}

func strict(b []byte, v any) error {
	d := json.NewDecoder(bytes.NewReader(b))
	d.DisallowUnknownFields()
	if err := d.Decode(v); err != nil {
		return err
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return errors.New("more than one JSON document")
	}
	return nil
}
