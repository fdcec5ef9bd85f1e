package lab

import (
	"fmt"
	"log/slog"
	"path/filepath"
	"regexp"
	"time"

	"github.com/tritonops/tritonops/pkg/fail"
)

// Config says what to start. Only Dir must be set; what a directory already
// holds wins over what only concerns its making.
type Config struct {
	Dir string
	// DCs is the number of data centers; anything but 0 and 1 is refused, this
	// lab has no data center services.
	DCs int
	// Instances is the number of standalone IMGAPI instances, images0 and on.
	// A directory that holds more keeps them.
	Instances int
	// Account is the Manta account, default "bob".
	Account string
	// Mode of new instances: public (default) or private.
	Mode string
	// Channels gives new instances the standard channels.
	Channels bool
	// NoInstanceKey leaves the instances' keys off the Manta account.
	NoInstanceKey bool
	// NoManta makes new instances without a manta section in their config.
	NoManta bool
	// Storage is where new instances keep image files: "manta" (the default, as
	// the stock template: storageTypes manta and local) or "local". Without Manta
	// it is local.
	Storage string
	// KeyDelay is how long Manta takes to know a new key everywhere; nil means
	// as at the last start, at first not at all.
	KeyDelay *time.Duration
	// Seed of the faults' dice; nil means that of the last start, at first 0.
	Seed *uint64
	// Binary is the tritonops binary the shims call; without it none are made.
	Binary string
	// Log takes what the lab has to say; nil means nothing.
	Log *slog.Logger
	// Now is the clock; nil means [time.Now].
	Now func() time.Time
	// RestartDelay is how long a dead service stays down, default 1 s.
	RestartDelay time.Duration
	// Stall is how long an image server hangs on a missing file, default 5 s; its
	// other times follow it, see [imgapid.Config].
	Stall time.Duration
}

// MaxInstances bounds the number of instances.
const MaxInstances = 16

var accountRE = regexp.MustCompile(`^[a-zA-Z][a-zA-Z0-9_.@-]{0,63}$`)

func (c *Config) finish() error {
	if c.Account == "" {
		c.Account = "bob"
	}
	if c.Mode == "" {
		c.Mode = "public"
	}
	if c.Storage == "" {
		c.Storage = "manta"
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.RestartDelay == 0 {
		c.RestartDelay = time.Second
	}
	switch {
	case c.Dir == "":
		return fail.New(fail.Usage, "lab: no directory")
	case c.DCs != 0 && c.DCs != 1:
		return fail.New(fail.Refused, "lab: %d data centers: this lab has a Manta and standalone IMGAPI instances, no data center services", c.DCs)
	case c.Instances < 0 || c.Instances > MaxInstances:
		return fail.New(fail.Usage, "lab: %d instances: between 0 and %d", c.Instances, MaxInstances)
	case c.Mode != "public" && c.Mode != "private":
		return fail.New(fail.Usage, "lab: mode %q: public or private", c.Mode)
	case c.Storage != "manta" && c.Storage != "local":
		return fail.New(fail.Usage, "lab: storage %q: manta or local", c.Storage)
	case c.KeyDelay != nil && *c.KeyDelay < 0:
		return fail.New(fail.Usage, "lab: key delay %s: negative", *c.KeyDelay)
	case !accountRE.MatchString(c.Account):
		return fail.New(fail.Usage, "lab: account %q: not a login", c.Account)
	}
	dir, err := filepath.Abs(c.Dir)
	if err != nil {
		return fmt.Errorf("lab: %w", err)
	}
	c.Dir = dir
	return nil
}

// paths are the places below a lab's directory.
type paths struct{ dir string }

func (p paths) state() string   { return filepath.Join(p.dir, "lab.json") }
func (p paths) lock() string    { return filepath.Join(p.dir, "lock") }
func (p paths) faults() string  { return filepath.Join(p.dir, "faults.json") }
func (p paths) log() string     { return filepath.Join(p.dir, "lab.log") }
func (p paths) home() string    { return filepath.Join(p.dir, "home") }
func (p paths) manta() string   { return filepath.Join(p.dir, "manta") }
func (p paths) bin() string     { return filepath.Join(p.dir, "bin") }
func (p paths) control() string { return filepath.Join(p.dir, "run", "control.sock") }
func (p paths) root(instance string) string {
	return filepath.Join(p.dir, instance, "root")
}
