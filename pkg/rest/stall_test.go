package rest

import (
	"context"
	"errors"
	"io"
	"net/http"
	"testing"
	"time"
)

func TestAStreamThatStallsEndsAndOneThatTricklesDoesNot(t *testing.T) {
	release := make(chan struct{})
	s := serve(t, func(w http.ResponseWriter, r *http.Request) {
		f := w.(http.Flusher)
		for range 5 {
			io.WriteString(w, "tick")
			f.Flush()
			time.Sleep(60 * time.Millisecond) // in all longer than the stall time
		}
		if r.URL.Path == "/stall" {
			select {
			case <-release:
			case <-r.Context().Done():
			}
		}
	})
	defer close(release)
	c := client(t, s.URL, nil)
	st, err := c.Stream(t.Context(), Request{Path: "/trickle"})
	if err != nil {
		t.Fatal(err)
	}
	if b, err := io.ReadAll(st.Body); err != nil || len(b) != 20 {
		t.Errorf("trickle: %d bytes, %v", len(b), err)
	}
	st.Body.Close()
	if st, err = c.Stream(t.Context(), Request{Path: "/stall"}); err != nil {
		t.Fatal(err)
	}
	defer st.Body.Close()
	if b, err := io.ReadAll(st.Body); !errors.Is(err, ErrStalled) || len(b) != 20 {
		t.Errorf("stall: %d bytes, %v", len(b), err)
	}
	if _, err := st.Body.Read(make([]byte, 1)); !errors.Is(err, ErrStalled) {
		t.Errorf("a stalled stream went on: %v", err)
	}
}

func TestASlowReaderIsNotBlamedOnTheServer(t *testing.T) {
	s := serve(t, func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, "body") })
	st, err := client(t, s.URL, nil).Stream(t.Context(), Request{Path: "/"})
	if err != nil {
		t.Fatal(err)
	}
	defer st.Body.Close()
	time.Sleep(300 * time.Millisecond)
	if b, err := io.ReadAll(st.Body); err != nil || string(b) != "body" {
		t.Errorf("%q, %v", b, err)
	}
}

func TestHeadersThatNeverComeAreAStall(t *testing.T) {
	s := serve(t, func(w http.ResponseWriter, r *http.Request) { <-r.Context().Done() })
	_, err := client(t, s.URL, func(cfg *Config) { cfg.Retry.Attempts = 2 }).Stream(t.Context(), Request{Path: "/"})
	if !errors.Is(err, ErrStalled) || !errors.Is(err, ErrUnavailable) {
		t.Errorf("error %v", err)
	}
}

func TestAnErrorWhoseBodyNeverComesIsAnErrorSoon(t *testing.T) {
	s := serve(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Length", "300068")
		if r.URL.Path == "/file" {
			w.Header().Set("Content-Type", "application/octet-stream")
		}
		w.WriteHeader(500)
		w.(http.Flusher).Flush()
		<-r.Context().Done()
	})
	for path, limit := range map[string]time.Duration{"/file": time.Second, "/json": errorBodyWait + 2*time.Second} {
		begin := time.Now()
		_, err := client(t, s.URL, nil).Stream(t.Context(), Request{Path: path})
		var e *Error
		if !errors.As(err, &e) || e.Status != 500 || time.Since(begin) > limit {
			t.Errorf("%s: %v after %v", path, err, time.Since(begin))
		}
	}
}

func TestCancellingEndsACallAtOnce(t *testing.T) {
	s := serve(t, func(w http.ResponseWriter, r *http.Request) { <-r.Context().Done() })
	ctx, cancel := context.WithCancel(t.Context())
	time.AfterFunc(50*time.Millisecond, cancel)
	begin := time.Now()
	_, err := client(t, s.URL, nil).JSON(ctx, Request{Path: "/"}, nil)
	if !errors.Is(err, context.Canceled) || time.Since(begin) > 2*time.Second {
		t.Errorf("%v after %v", err, time.Since(begin))
	}
}

func TestTheTimeoutBoundsAllAttemptsTogether(t *testing.T) {
	s := serve(t, func(w http.ResponseWriter, r *http.Request) { <-r.Context().Done() })
	begin := time.Now()
	_, err := client(t, s.URL, func(cfg *Config) { cfg.Timeout = 200 * time.Millisecond }).JSON(t.Context(), Request{Path: "/"}, nil)
	if !errors.Is(err, ErrUnavailable) || !errors.Is(err, context.DeadlineExceeded) || time.Since(begin) > 2*time.Second {
		t.Errorf("%v after %v", err, time.Since(begin))
	}
}
