package manta

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

func TestConditionsDecideAndLosersAreTold(t *testing.T) {
	f := newFront(t, false)
	c := f.client()
	first, err := c.Put(t.Context(), "/bob/stor/o", Bytes("1"), PutOptions{If: Absent()})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.Put(t.Context(), "/bob/stor/o", Bytes("2"), PutOptions{If: Absent()}); !errors.Is(err, ErrPrecondition) {
		t.Errorf("create over an object: %v", err)
	}
	second, err := c.Put(t.Context(), "/bob/stor/o", Bytes("3"), PutOptions{If: Match(first.ETag)})
	if err != nil || second.ETag == first.ETag {
		t.Fatalf("replace: %v, %v", second, err)
	}
	if err := c.Delete(t.Context(), "/bob/stor/o", Match(first.ETag)); !errors.Is(err, ErrPrecondition) {
		t.Errorf("delete of another version: %v", err)
	}
	if _, err := c.Put(t.Context(), "/bob/stor/o", Bytes("4"), PutOptions{If: Match("")}); err == nil {
		t.Error("an empty etag would be no condition and must be refused")
	}
	if err := c.Delete(t.Context(), "/bob/stor/o", Match(second.ETag)); err != nil {
		t.Error(err)
	}
	f.fault = func(w http.ResponseWriter, r *http.Request) bool {
		refuse(w, 409, "ConcurrentRequest", "x")
		return true
	}
	if _, err := c.Put(t.Context(), "/bob/stor/o", Bytes("5"), PutOptions{If: Absent()}); !errors.Is(err, ErrPrecondition) {
		t.Errorf("409 ConcurrentRequest: %v", err)
	}
	f.fault = func(w http.ResponseWriter, r *http.Request) bool {
		refuse(w, 409, "DirectoryLimitExceeded", "x")
		return true
	}
	if _, err := c.Put(t.Context(), "/bob/stor/o", Bytes("5"), PutOptions{If: Absent()}); err == nil || errors.Is(err, ErrPrecondition) {
		t.Errorf("another 409 is not a lost race: %v", err)
	}
}

func TestOfManyConcurrentCreatorsOneWins(t *testing.T) {
	f := newFront(t, true)
	c := f.client()
	var won, lost atomic.Int32
	var wg sync.WaitGroup
	for i := range 32 {
		wg.Go(func() {
			_, err := c.Put(t.Context(), "/bob/stor/lock", Bytes(fmt.Sprint(i)), PutOptions{If: Absent(), SendMD5: true})
			switch {
			case err == nil:
				won.Add(1)
			case errors.Is(err, ErrPrecondition):
				lost.Add(1)
			default:
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if won.Load() != 1 || lost.Load() != 31 {
		t.Errorf("%d won, %d lost", won.Load(), lost.Load())
	}
}

// What an answer, or none, proves about a conditional write.
func TestAConditionalRequestIsSentOnceAndItsOutcomeIsNamed(t *testing.T) {
	lost := func(w http.ResponseWriter, r *http.Request) bool { io.Copy(io.Discard, r.Body); hangUp(w); return true }
	after := func(status int, code string) func(http.ResponseWriter, *http.Request) bool {
		return func(w http.ResponseWriter, r *http.Request) bool {
			io.Copy(io.Discard, r.Body)
			refuse(w, status, code, "x")
			return true
		}
	}
	before := func(w http.ResponseWriter, r *http.Request) bool {
		refuse(w, 503, "ServiceUnavailable", "x")
		return true
	}
	for name, tc := range map[string]struct {
		fault   func(http.ResponseWriter, *http.Request) bool
		size    int
		is      error
		unknown bool
	}{
		"answer lost, small":            {lost, 5, ErrUnavailable, true},
		"answer lost, large":            {lost, 2 << 20, ErrUnavailable, true},
		"500 after the content":         {after(500, "InternalError"), 5, ErrUnavailable, true},
		"503 after the content":         {after(503, "ServiceUnavailable"), 2 << 20, ErrUnavailable, true},
		"503 before the content":        {before, 2 << 20, ErrUnavailable, false},
		"throttled, which is before":    {after(503, "ThrottledError"), 5, ErrThrottled, false},
		"429":                           {after(429, ""), 5, ErrThrottled, false},
		"no space, which is before":     {after(507, "NotEnoughSpace"), 5, ErrUnavailable, false},
		"403 says it was never applied": {after(403, "NoMatchingRoleTag"), 5, ErrAuth, false},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFront(t, false)
			f.fault = tc.fault
			_, err := f.client().Put(t.Context(), "/bob/stor/o", Bytes(pattern(tc.size)), PutOptions{If: Absent()})
			if !errors.Is(err, tc.is) || errors.Is(err, ErrUnknownOutcome) != tc.unknown {
				t.Errorf("error %v; unknown outcome: %v", err, errors.Is(err, ErrUnknownOutcome))
			}
			if got := f.requests(); len(got) != 1 {
				t.Errorf("sent %q", got)
			}
		})
	}
}

// What never left whole was never applied, so it may be sent again.
func TestAConditionalRequestThatNeverLeftWholeMayBeRepeated(t *testing.T) {
	t.Run("content never complete", func(t *testing.T) {
		f := newFront(t, false)
		var n atomic.Int32
		f.fault = func(w http.ResponseWriter, r *http.Request) bool {
			if n.Add(1) > 1 {
				return false
			}
			io.CopyN(io.Discard, r.Body, 1<<20)
			hangUp(w)
			return true
		}
		if _, err := f.client().Put(t.Context(), "/bob/stor/o", Bytes(pattern(64<<20)), PutOptions{If: Absent()}); err != nil || n.Load() != 2 {
			t.Errorf("half a request proves nothing was applied, and may be repeated: %d requests, %v", n.Load(), err)
		}
	})
	t.Run("kept connection closed meanwhile", func(t *testing.T) {
		f := newFront(t, false)
		c := f.client()
		for i := range 20 {
			if _, err := c.Put(t.Context(), fmt.Sprint("/bob/stor/o", i), Bytes("x"), PutOptions{If: Absent()}); err != nil {
				t.Fatal(err)
			}
			f.srv.CloseClientConnections()
			time.Sleep(time.Millisecond)
		}
	})
	t.Run("nobody listens", func(t *testing.T) {
		f := newFront(t, false)
		c := f.client()
		f.srv.Close()
		_, err := c.Put(t.Context(), "/bob/stor/o", Bytes("x"), PutOptions{If: Absent()})
		if !errors.Is(err, ErrUnavailable) || errors.Is(err, ErrUnknownOutcome) {
			t.Errorf("nothing was sent, yet: %v", err)
		}
	})
}

func TestUnconditionalRequestsSurvivePassingTrouble(t *testing.T) {
	trouble := []func(w http.ResponseWriter, r *http.Request){
		func(w http.ResponseWriter, r *http.Request) { hangUp(w) },
		func(w http.ResponseWriter, r *http.Request) { refuse(w, 503, "ThrottledError", "x") },
		func(w http.ResponseWriter, r *http.Request) { io.Copy(io.Discard, r.Body); hangUp(w) },
	}
	f := newFront(t, true)
	f.put("/bob/stor/there", []byte("there"))
	var n atomic.Int32
	f.fault = func(w http.ResponseWriter, r *http.Request) bool {
		if i := int(n.Add(1)) - 1; i < len(trouble) {
			trouble[i](w, r)
			return true
		}
		return false
	}
	var notes atomic.Int32
	c := f.client(func(cfg *Config) { cfg.Notify = func(string) { notes.Add(1) } })
	for name, op := range map[string]func() error{
		"put": func() error { _, err := c.Put(t.Context(), "/bob/stor/o", Bytes("x"), PutOptions{}); return err },
		"put large": func() error {
			_, err := c.Put(t.Context(), "/bob/stor/o", Bytes(pattern(3<<20)), PutOptions{})
			return err
		},
		"head": func() error { _, err := c.Head(t.Context(), "/bob/stor/there"); return err },
		"get": func() error {
			o, err := c.Get(t.Context(), "/bob/stor/there", GetOptions{})
			if err == nil {
				err = o.Close()
			}
			return err
		},
		"mkdir": func() error { return c.Mkdir(t.Context(), "/bob/stor/d") },
		"list": func() error {
			for _, err := range c.List(t.Context(), "/bob/stor", ListOptions{}) {
				if err != nil {
					return err
				}
			}
			return nil
		},
	} {
		n.Store(0)
		notes.Store(0)
		if err := op(); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		// net/http itself repeats a GET or HEAD on a kept connection that was closed.
		if notes.Load() == 0 {
			t.Errorf("%s: nobody was told", name)
		}
	}
}

func TestADeleteWhoseAnswerWasLostFindsNothingAndIsDone(t *testing.T) {
	f := newFront(t, false)
	f.put("/bob/stor/o", []byte("x"))
	var once sync.Once
	f.fault = func(w http.ResponseWriter, r *http.Request) (done bool) {
		once.Do(func() {
			f.mu.Lock()
			delete(f.objects, "/bob/stor/o")
			f.mu.Unlock()
			hangUp(w)
			done = true
		})
		return done
	}
	c := f.client()
	if err := c.Delete(t.Context(), "/bob/stor/o", Condition{}); err != nil {
		t.Error(err)
	}
	if err := c.Delete(t.Context(), "/bob/stor/o", Condition{}); !errors.Is(err, ErrNotFound) {
		t.Errorf("nothing there: %v", err)
	}
}
