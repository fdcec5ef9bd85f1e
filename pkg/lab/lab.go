package lab

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/tritonops/tritonops/pkg/durable"
	"github.com/tritonops/tritonops/pkg/fail"
	"github.com/tritonops/tritonops/pkg/lab/fault"
	"github.com/tritonops/tritonops/pkg/lab/imgapid"
	"github.com/tritonops/tritonops/pkg/lab/mantad"
)

// Notice is what the lab says at every start.
const Notice = "this is a LAB on loopback: nothing in it is real, and nothing real is touched"

const operatorUser = "operator"

// Lab is a running lab.
type Lab struct {
	cfg    Config
	lock   *durable.Lock
	faults *fault.Set
	manta  *mantad.Server

	mu       sync.Mutex // guards state
	state    *State
	services map[string][]*smfService // by instance; fixed after Up

	since          time.Time
	control        *http.Server
	cancel         context.CancelFunc
	wg             sync.WaitGroup
	stopped        chan struct{} // closed when somebody asked for the end
	stopOnce, once sync.Once
}

// Up starts the lab in cfg.Dir, or continues it, and returns once everything
// answers. When another process runs it the error wraps [*durable.HeldError] and
// has exit code 7. ctx bounds the start only; end the lab with Close.
func Up(ctx context.Context, cfg Config) (*Lab, error) {
	if err := cfg.finish(); err != nil {
		return nil, err
	}
	if err := durable.MkdirAll(cfg.Dir, 0o700); err != nil {
		return nil, err
	}
	lock, err := durable.Acquire(paths{cfg.Dir}.lock(), "lab up")
	if err != nil {
		var held *durable.HeldError
		if errors.As(err, &held) {
			return nil, fail.Hint(fail.New(fail.Held, "lab %s: already up: %w", cfg.Dir, err), "tritonops lab status --dir %s", cfg.Dir)
		}
		return nil, err
	}
	l := &Lab{cfg: cfg, lock: lock, services: map[string][]*smfService{}, stopped: make(chan struct{}), since: cfg.Now()}
	runCtx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	l.cancel = cancel
	if err := l.start(ctx, runCtx); err != nil {
		return nil, errors.Join(err, l.Close())
	}
	cfg.Log.Info(Notice, "dir", cfg.Dir)
	return l, nil
}

func (l *Lab) start(ctx, runCtx context.Context) error {
	var err error
	if l.state, err = openState(l.cfg); err != nil {
		return err
	}
	if err := l.openFaults(); err != nil {
		return err
	}
	if err := l.startManta(); err != nil {
		return err
	}
	operator, err := l.makeOperator()
	if err != nil {
		return err
	}
	if err := l.makeInstances(operator); err != nil {
		return err
	}
	if l.cfg.Binary != "" {
		l.state.Binary = l.cfg.Binary
	}
	if err := writeShims(l.state); err != nil {
		return err
	}
	if err := l.state.save(); err != nil {
		return err
	}
	for i := range l.state.Instances {
		l.startInstance(zone{&l.state.Instances[i]})
	}
	if err := l.settle(ctx); err != nil {
		return err
	}
	for i := range l.state.Instances {
		z := zone{&l.state.Instances[i]}
		l.hourly(ctx, z)
		l.wg.Go(func() { l.runCron(runCtx, z) })
	}
	return l.listenControl()
}

func (l *Lab) openFaults() error {
	l.faults = fault.NewSet(l.state.Seed, imgapid.FaultKinds()...)
	b, err := os.ReadFile(paths{l.cfg.Dir}.faults())
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	return json.Unmarshal(b, l.faults)
}

func (l *Lab) saveFaults() error {
	b, err := json.MarshalIndent(l.faults, "", "  ")
	if err != nil {
		return err
	}
	return durable.WriteFile(paths{l.cfg.Dir}.faults(), append(b, '\n'), 0o600)
}

func (l *Lab) startManta() error {
	dir := paths{l.cfg.Dir}.manta()
	if err := makeCert(filepath.Join(dir, "cert.pem"), "manta.lab", l.cfg.Now()); err != nil {
		return err
	}
	conf, err := tlsFrom(filepath.Join(dir, "cert.pem"))
	if err != nil {
		return err
	}
	listener, err := net.Listen("tcp", loopback(l.state.Manta.Port))
	if err != nil {
		return fail.New(fail.Held, "lab %s: manta: %w", l.cfg.Dir, err)
	}
	l.state.Manta.Port = listener.Addr().(*net.TCPAddr).Port
	l.state.Manta.URL = "https://" + loopback(l.state.Manta.Port)
	l.manta, err = mantad.New(mantad.Config{Dir: filepath.Join(dir, "state"), Faults: l.faults, KeyDelay: l.state.KeyDelay,
		Accounts: []mantad.Account{{Login: l.state.Account}}, Clock: l.cfg.Now})
	if err != nil {
		return errors.Join(err, listener.Close())
	}
	l.wg.Go(func() {
		if err := l.manta.Serve(listener, conf); err != nil {
			l.cfg.Log.Error("manta ended", "error", err)
		}
	})
	return nil
}

// makeOperator makes the operator's key and puts it on the Manta account.
func (l *Lab) makeOperator() (keyPair, error) {
	path := filepath.Join(paths{l.cfg.Dir}.home(), ".ssh", "id_rsa")
	kp, err := makeKey(path, operatorUser+"@lab", false, newRSA)
	if err != nil {
		return kp, err
	}
	l.state.Operator = OperatorState{User: operatorUser, Key: path, KeyID: kp.md5, KeySHA256: kp.sha256}
	_, err = l.manta.AddKey(l.state.Account, "", kp.authorized)
	return kp, err
}

// makeInstances adds the instances that are missing and completes the others.
func (l *Lab) makeInstances(operator keyPair) error {
	for i := len(l.state.Instances); i < l.cfg.Instances; i++ {
		in, err := l.newInstance(fmt.Sprintf("images%d", i))
		if err != nil {
			return err
		}
		l.state.Instances = append(l.state.Instances, in)
	}
	for i := range l.state.Instances {
		in := &l.state.Instances[i]
		if in.ProxyPort == 0 { // made before there was one
			ports, err := freePorts(1)
			if err != nil {
				return err
			}
			in.ProxyPort = ports[0]
		}
		if err := makeZone(l.cfg, l.state, in, operator); err != nil {
			return fmt.Errorf("lab: instance %s: %w", in.Name, err)
		}
		if !in.KeyOnAccount {
			continue
		}
		pub, err := zone{in}.publicKey()
		if err != nil {
			return err
		}
		if _, err := l.manta.AddKey(l.state.Account, "", pub); err != nil {
			return err
		}
	}
	return nil
}

func (l *Lab) newInstance(name string) (InstanceState, error) {
	uuid, err := newUUID()
	if err != nil {
		return InstanceState{}, err
	}
	in := InstanceState{Name: name, Zonename: uuid, Hostname: "imgapi-" + name + "-" + uuid[:8], Root: paths{l.cfg.Dir}.root(name),
		KeyOnAccount: !l.cfg.NoInstanceKey && !l.cfg.NoManta}
	ports, err := freePorts(3)
	if err != nil {
		return in, err
	}
	in.HTTPPort, in.HTTPSPort, in.ProxyPort = ports[0], ports[1], ports[2]
	in.URL = "https://" + loopback(in.HTTPSPort)
	return in, nil
}

// freePorts finds loopback ports nobody listens on, below those that systems give
// to connections: a service that restarts must not find its port taken by one.
func freePorts(n int) ([]int, error) {
	var ports []int
	for tries := 100; len(ports) < n; tries-- {
		port := 10_000 + rand.IntN(20_000)
		if tries <= 0 {
			port = 0 // whatever there is
		}
		l, err := net.Listen("tcp", loopback(port))
		if err != nil && port == 0 {
			return nil, err
		}
		if err == nil {
			defer l.Close()
			ports = append(ports, l.Addr().(*net.TCPAddr).Port)
		}
	}
	return ports, nil
}

// firstPoll bounds the wait for an image server's first look at the keys in Manta.
const firstPoll = 300 * time.Millisecond

// imgLife is one life of an IMGAPI process as the restarter sees it.
type imgLife struct{ *imgapid.Process }

func (p imgLife) Reason() string { return p.Exit().Error() }

// startInstance starts the instance's two services unless an administrator
// disabled them.
func (l *Lab) startInstance(z zone) {
	imgapi := &smfService{name: "imgapi", fmri: "svc:/smartdc/site/imgapi:default", title: "Triton Image API", delay: l.cfg.RestartDelay,
		now: l.cfg.Now, log: l.cfg.Log.With("instance", z.Name), start: func() (running, error) { return l.startIMGAPI(z) }}
	haproxy := &smfService{name: "haproxy", fmri: "svc:/site/haproxy:default", title: "HAProxy", delay: l.cfg.RestartDelay,
		now: l.cfg.Now, log: imgapi.log, start: func() (running, error) { return startFront(z, l.faults) }}
	l.services[z.Name] = []*smfService{imgapi, haproxy}
	for _, s := range l.services[z.Name] {
		s.set(stateDisabled, "")
		if !contains(z.Disabled, s.name) {
			s.enable()
		}
	}
}

func (l *Lab) startIMGAPI(z zone) (running, error) {
	log, err := os.OpenFile(z.path("var", "svc", "log", "smartdc-site-imgapi:default.log"), os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o644)
	if err != nil {
		return nil, err
	}
	p, err := imgapid.Start(imgapid.Config{Root: z.Root, Hostname: z.Hostname, Log: log, Faults: l.faults, Instance: z.Name,
		Stall: l.cfg.Stall, Now: l.cfg.Now})
	if err != nil {
		return nil, errors.Join(err, log.Close())
	}
	go func() {
		<-p.Done()
		_ = log.Close() // the last record is written before Done
	}()
	select { // what the server asks Manta at its start is over then, if Manta answers
	case <-p.KeysPolled():
	case <-p.Done():
	case <-time.After(firstPoll):
	}
	return imgLife{p}, nil
}

// settle waits until every enabled service is up. One that cannot start because
// its port is taken or its configuration is wrong does not keep the lab down: an
// operator may be rehearsing just that.
func (l *Lab) settle(ctx context.Context) error {
	for name, list := range l.services {
		for _, s := range list {
			st := s.status()
			if st.State == stateOffline && strings.Contains(st.Reason, "address already in use") {
				return fail.New(fail.Held, "lab %s: %s of %s: %s", l.cfg.Dir, s.name, name, st.Reason)
			}
			if st.State == stateOffline || st.State == stateMaintenance {
				l.cfg.Log.Warn("service does not start", "instance", name, "service", s.name, "reason", st.Reason)
			}
		}
	}
	return ctx.Err()
}

func contains(list []string, s string) bool {
	for _, e := range list {
		if e == s {
			return true
		}
	}
	return false
}

// State returns a copy of the lab's state.
func (l *Lab) State() State {
	l.mu.Lock()
	defer l.mu.Unlock()
	s := *l.state
	s.Instances = append([]InstanceState(nil), s.Instances...)
	return s
}

// Faults is the set of faults in force. Changes made here are not saved; those
// made through the control socket are.
func (l *Lab) Faults() *fault.Set { return l.faults }

// Manta is the Manta server, for its counters.
func (l *Lab) Manta() *mantad.Server { return l.manta }

// Stopped is closed when somebody asked for the end of the lab through the
// control socket; then call Close.
func (l *Lab) Stopped() <-chan struct{} { return l.stopped }

// Close ends everything and gives the directory up. Services do not count as
// disabled by it.
func (l *Lab) Close() error {
	var err error
	l.once.Do(func() {
		l.cancel()
		if l.control != nil {
			ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
			defer cancel()
			if l.control.Shutdown(ctx) != nil {
				err = errors.Join(err, l.control.Close())
			}
			err = errors.Join(err, removeControl(l.state))
		}
		for _, list := range l.services {
			for _, s := range list {
				s.disable()
			}
		}
		if l.manta != nil {
			err = errors.Join(err, l.manta.Close())
		}
		l.wg.Wait()
		err = errors.Join(err, l.lock.Release())
	})
	return err
}
