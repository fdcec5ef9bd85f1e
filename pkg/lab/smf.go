package lab

import (
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"
)

// Service states, by SMF's names.
const (
	stateOnline      = "online"
	stateOffline     = "offline"
	stateDisabled    = "disabled"
	stateMaintenance = "maintenance"
)

// SMF gives up on a service that dies this often within this time.
const (
	deathLimit  = 10
	deathPeriod = 10 * time.Minute
)

// running is one life of a service.
type running interface {
	Done() <-chan struct{} // closed when it has ended
	Kill()                 // ends it at once
	Reason() string        // how it ended
}

// smfService restarts what it runs, as SMF's restarter does.
type smfService struct {
	name, fmri, title string
	start             func() (running, error)
	delay             time.Duration
	now               func() time.Time
	log               *slog.Logger

	op     sync.Mutex // one administrator's command at a time
	mu     sync.Mutex
	state  string
	since  time.Time
	reason string // of maintenance or of the last death
	life   running
	noted  chan struct{} // closed when the restarter has noted the death of life
	stop   chan struct{} // closed to end the restarter
	ended  chan struct{} // closed when the restarter has ended
	deaths []time.Time
	starts int
}

// ServiceStatus is a service as `svcs` sees it.
type ServiceStatus struct {
	Name   string    `json:"name"`
	FMRI   string    `json:"fmri"`
	Title  string    `json:"title"`
	State  string    `json:"state"`
	Since  time.Time `json:"since"`
	Reason string    `json:"reason,omitempty"`
	Starts int       `json:"starts"`
}

func (s *smfService) status() ServiceStatus {
	s.mu.Lock()
	defer s.mu.Unlock()
	return ServiceStatus{Name: s.name, FMRI: s.fmri, Title: s.title, State: s.state, Since: s.since.UTC(), Reason: s.reason, Starts: s.starts}
}

func (s *smfService) set(state, reason string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.state, s.reason, s.since = state, reason, s.now()
}

// enable starts the service and waits until it runs or has failed once.
func (s *smfService) enable() {
	s.op.Lock()
	defer s.op.Unlock()
	s.enableLocked()
}

func (s *smfService) enableLocked() {
	s.mu.Lock()
	if s.stop != nil {
		s.mu.Unlock()
		return
	}
	stop, ended, first := make(chan struct{}), make(chan struct{}), make(chan struct{})
	s.stop, s.ended, s.deaths = stop, ended, nil
	s.mu.Unlock()
	go func() {
		defer close(ended)
		s.keep(stop, first)
	}()
	<-first
}

// keep runs the service until stop is closed or it died too often. first is
// closed after the first attempt.
func (s *smfService) keep(stop, first chan struct{}) {
	var once sync.Once
	defer once.Do(func() { close(first) })
	for {
		life, err := s.begin()
		once.Do(func() { close(first) })
		reason := ""
		if err != nil {
			reason = err.Error()
		} else {
			select {
			case <-stop:
				life.Kill()
				<-life.Done()
				return
			case <-life.Done():
				reason = life.Reason()
			}
		}
		s.log.Warn("service died", "service", s.name, "reason", reason)
		if s.mourn(reason) {
			<-stop
			return
		}
		select {
		case <-stop:
			return
		case <-time.After(s.delay):
		}
	}
}

func (s *smfService) begin() (running, error) {
	life, err := s.start()
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.life, s.state, s.reason, s.since = life, stateOnline, "", s.now()
	s.noted = make(chan struct{})
	s.starts++
	return life, nil
}

// mourn notes a death and says whether it was one too many.
func (s *smfService) mourn(reason string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := s.now()
	s.deaths = append(s.deaths, now)
	s.deaths = slices.DeleteFunc(s.deaths, func(d time.Time) bool { return now.Sub(d) >= deathPeriod })
	tooOften := len(s.deaths) >= deathLimit
	s.state, s.reason, s.since = stateOffline, reason, now
	s.life = nil // its memory can be large
	if tooOften {
		s.state, s.reason = stateMaintenance, "Restarting too quickly. Last: "+reason
	}
	if s.noted != nil {
		close(s.noted)
		s.noted = nil
	}
	return tooOften
}

// disable kills the service and waits until it is gone.
func (s *smfService) disable() {
	s.op.Lock()
	defer s.op.Unlock()
	s.disableLocked()
}

func (s *smfService) disableLocked() {
	s.mu.Lock()
	stop, ended := s.stop, s.ended
	s.stop, s.life = nil, nil
	s.mu.Unlock()
	if stop != nil {
		close(stop)
		<-ended
	}
	s.set(stateDisabled, "")
}

// restart is what the stock stop and refresh methods are too: kill and start.
func (s *smfService) restart() {
	s.op.Lock()
	defer s.op.Unlock()
	s.mu.Lock()
	off := s.stop == nil
	s.mu.Unlock()
	if off {
		return // restarting a disabled service does nothing
	}
	s.disableLocked()
	s.enableLocked()
}

// crash ends the running life and returns when the restarter has noted it.
func (s *smfService) crash() error {
	s.op.Lock()
	defer s.op.Unlock()
	s.mu.Lock()
	life, noted, state := s.life, s.noted, s.state
	s.mu.Unlock()
	if state != stateOnline {
		return fmt.Errorf("%s: is %s, nothing to crash", s.name, state)
	}
	if c, ok := life.(interface{ Crash(string) }); ok {
		c.Crash("killed by the operator of the lab")
	} else {
		life.Kill()
	}
	<-noted
	return nil
}
