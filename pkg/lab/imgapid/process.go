package imgapid

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"path/filepath"
	"strconv"
	"sync"
	"time"

	"github.com/tritonops/tritonops/pkg/lab/fault"
)

// Config says how to start one life of the server.
type Config struct {
	// Root is the zone's root: data is under Root/data/imgapi.
	Root string
	// ConfigFile is the configuration, by default etc/imgapi.config.json in the
	// data directory.
	ConfigFile string
	// Hostname is what x-server-name tells.
	Hostname string
	// Log takes the server's log, one JSON line a record, as bunyan writes it.
	Log io.Writer
	// Faults makes it worse than it is by itself; may be nil. Instance is the
	// name its faults are matched by, next to the service [Service].
	Faults   *fault.Set
	Instance string
	// Stall is how long an answer hangs whose image file is missing or too
	// short; 0 means the 5 s of the real server. The other times without an end of
	// their own follow it: a refused connection to Manta is tried again for three
	// times as long (15 s), and a connection nobody reads from is dropped after 24
	// times (2 minutes).
	Stall time.Duration
	// ArchiveEvery is the pause between two moves of the archive to Manta, 0
	// means 5 minutes; KeysEvery that between two looks at the keys in Manta, 0
	// means an hour.
	ArchiveEvery, KeysEvery time.Duration
	// Now is the clock; nil means [time.Now].
	Now func() time.Time
}

// Service is the name of the service in faults.
const Service = "imgapi"

// The kinds of fault only this server knows.
const (
	SlowRewrite   fault.Kind = "slow-rewrite"    // the rewrite of a manifest rests half done for Delay
	CrashMidWrite fault.Kind = "crash-mid-write" // the process dies half way through the rewrite of a manifest
	Crash         fault.Kind = "crash"           // the process dies when the request arrives
)

// FaultKinds lists them for [fault.NewSet].
func FaultKinds() []fault.KindHelp {
	return []fault.KindHelp{
		{Kind: SlowRewrite, Help: "imgapi: leaves a manifest half written for delay (default 1m) at each rewrite"},
		{Kind: CrashMidWrite, Help: "imgapi: dies half way through the rewrite of a manifest, which stays torn"},
		{Kind: Crash, Help: "imgapi: dies when the request arrives"},
	}
}

// ExitError says how a process ended.
type ExitError struct {
	Status int    // exit status; 128+n for signal n
	Reason string // for the log
}

func (e *ExitError) Error() string {
	return fmt.Sprintf("imgapi: exit status %d: %s", e.Status, e.Reason)
}

// A Process is one life of the server. It serves until it is killed,
// interrupted or crashes; then its memory is gone and a new one must be started.
type Process struct {
	cfg      Config
	set      settings
	at       layout
	log      *bunyan
	db       *database
	keys     *keyring
	table    []route
	rules    rules
	srv      *http.Server
	listener net.Listener
	writes   sync.Mutex  // one manifest is written at a time; reads go on
	uploads  sync.Mutex  // moving a file in and entering it in its manifest is one step
	manta    *mantaStore // nil without a manta section that anything needs
	watcher  *keyWatcher // nil when keys in Manta are not looked at

	life    context.Context // ends with the process
	endLife context.CancelFunc

	dead chan struct{} // closed first: nothing may be written any more
	done chan struct{} // closed when listener and connections are gone
	once sync.Once
	exit *ExitError
}

// Start reads configuration, manifests and keys and listens. The error is an
// [*ExitError]: status 2 for a bad configuration, 1 for anything later.
func Start(cfg Config) (*Process, error) {
	cfg = cfg.withDefaults()
	p := &Process{cfg: cfg, at: layout{filepath.Join(cfg.Root, "data", "imgapi")},
		log: &bunyan{w: cfg.Log, host: cfg.Hostname, now: cfg.Now}, dead: make(chan struct{}), done: make(chan struct{})}
	if p.cfg.ConfigFile == "" {
		p.cfg.ConfigFile = p.at.config()
	}
	var err error
	if p.set, err = readSettings(p.cfg.ConfigFile); err != nil {
		return nil, p.stillborn(2, err)
	}
	if ip := net.ParseIP(p.set.Address); ip == nil || !ip.IsLoopback() {
		return nil, p.stillborn(2, fmt.Errorf("address %s: a lab listens on loopback only", p.set.Address))
	}
	p.rules = p.set.rules()
	if err = p.at.make(); err != nil {
		return nil, p.stillborn(1, err)
	}
	if p.db, err = loadDatabase(p.at.manifests(), p.rules, p.log); err != nil {
		return nil, p.stillborn(1, err)
	}
	if !p.set.stores("local") { // upstream starts to archive and finds nowhere to
		return nil, p.stillborn(134, errors.New("TypeError: Cannot read property 'archiveDir' of undefined"))
	}
	if err = p.openManta(); err != nil {
		return nil, p.stillborn(1, err)
	}
	p.keys = newKeyring(p.at, p.set.AuthKeys, p.set.Manta != nil)
	p.keys.reload()
	p.listener, err = net.Listen("tcp", net.JoinHostPort(p.set.Address, strconv.Itoa(p.set.Port)))
	if err != nil {
		return nil, p.stillborn(1, err)
	}
	p.table = p.routes()
	p.life, p.endLife = context.WithCancel(context.Background())
	p.serve()
	p.talkToManta()
	return p, nil
}

func (c Config) withDefaults() Config {
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.Log == nil {
		c.Log = io.Discard
	}
	c.Stall = cmp.Or(c.Stall, 5*time.Second)
	c.ArchiveEvery = cmp.Or(c.ArchiveEvery, 5*time.Minute)
	c.KeysEvery = cmp.Or(c.KeysEvery, time.Hour)
	return c
}

// patience is how long a refused connection to Manta is tried again.
func (c Config) patience() time.Duration { return 3 * c.Stall }

// socketTimeout is when a connection on which nothing happens is dropped.
func (c Config) socketTimeout() time.Duration { return 24 * c.Stall }

func (p *Process) stillborn(status int, err error) error {
	p.log.put(60, "imgapi does not start: "+err.Error(), nil)
	return &ExitError{Status: status, Reason: err.Error()}
}

func (p *Process) serve() {
	var h http.Handler = http.HandlerFunc(p.handle)
	if p.cfg.Faults != nil {
		h = fault.Middleware(fault.Options{Set: p.cfg.Faults, Service: Service, Instance: p.cfg.Instance}, h)
	}
	p.srv = &http.Server{Handler: h, IdleTimeout: 5 * time.Second, ErrorLog: log.New(io.Discard, "", 0),
		DisableGeneralOptionsHandler: true}
	p.log.put(30, fmt.Sprintf("imgapi (a lab, not the real one) listening at http://%s", p.listener.Addr()), nil)
	go func() {
		err := p.srv.Serve(deafListener{fault.Listener(p.listener, p.cfg.Faults, Service, p.cfg.Instance), p.cfg.socketTimeout()})
		if !errors.Is(err, http.ErrServerClosed) {
			p.die(1, err.Error())
		}
	}()
}

// Addr is the address it listens on.
func (p *Process) Addr() string { return p.listener.Addr().String() }

// Images is the number of manifests it holds.
func (p *Process) Images() int { return p.db.size() }

// Done is closed when the process has ended.
func (p *Process) Done() <-chan struct{} { return p.done }

// Exit says how it ended; nil while it runs.
func (p *Process) Exit() *ExitError {
	select {
	case <-p.done:
		return p.exit
	default:
		return nil
	}
}

// Kill is SIGTERM: immediate death, requests in flight are cut.
func (p *Process) Kill() { p.die(143, "SIGTERM") }

// Crash is an uncaught exception.
func (p *Process) Crash(reason string) { p.die(134, "uncaught exception: "+reason) }

// Interrupt is SIGINT: no new connections, requests in flight are finished, exit
// status 1. When ctx ends first they are cut.
func (p *Process) Interrupt(ctx context.Context) {
	_ = p.srv.Shutdown(ctx) // a context that ends first only means that die cuts what is left
	p.die(1, "SIGINT")
}

func (p *Process) die(status int, reason string) {
	p.once.Do(func() {
		p.exit = &ExitError{Status: status, Reason: reason}
		close(p.dead)
		p.endLife()
		level := 60
		if status == 143 || status == 1 {
			level = 30
		}
		p.log.put(level, "imgapi ends: "+reason, nil)
		_ = p.srv.Close()
		if p.manta != nil {
			p.manta.client.Close()
		}
		close(p.done)
	})
	<-p.done
}

func (p *Process) isDead() bool {
	select {
	case <-p.dead:
		return true
	default:
		return false
	}
}

// rest sleeps, unless the process dies meanwhile.
func (p *Process) rest(d time.Duration) {
	select {
	case <-p.dead:
	case <-time.After(d):
	}
}

// bunyan writes the server's log in the upstream form.
type bunyan struct {
	mu   sync.Mutex
	w    io.Writer
	host string
	now  func() time.Time
}

// put writes one record: level 30 info, 40 warning, 50 error, 60 fatal.
func (b *bunyan) put(level int, msg string, extra *object) {
	o := newObject()
	o.set("name", "imgapi")
	o.set("hostname", b.host)
	o.set("level", level)
	if extra != nil {
		for _, k := range extra.keys {
			o.set(k, extra.get(k))
		}
	}
	o.set("msg", msg)
	o.set("time", isoDate(b.now()))
	o.set("v", 0)
	b.mu.Lock()
	defer b.mu.Unlock()
	_, _ = b.w.Write(append(compact(o), '\n')) // a full disk must not stop the server for its log
}
