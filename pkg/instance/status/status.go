// Package status holds the named checks of one standalone image server: what
// its stock status script looks at, what RFD 40 asks for, and what bites on
// top of it.
//
// [New] makes a fresh [health.Registry] for one run. The checks share what is
// expensive, one walk over the manifests and one ping of each end, for that run
// only; a second run needs a second registry.
//
// They reach everything but the local disk through the small interfaces of
// this package, and change nothing anywhere.
//
// # Thresholds
//
//	certificate     warning below 30 days left, fault below 7, expired, or not yet valid
//	backup_age      fault above 1 hour since the last run ended (the stock cron runs hourly)
//	log_upload      fault above 1 hour since the last run ended
//	log_rotation    fault when the newest rotated log is older than 65 minutes: it is due on
//	                every hour, and minutes pass until it is done
//	disk_space      warning from 80 % used, fault from 90 %, of bytes or of inodes
//	lock            none: the lock is shown, and only contradictions are faults
package status

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"os"
	"sync"
	"time"

	"github.com/tritonops/tritonops/pkg/health"
	"github.com/tritonops/tritonops/pkg/instance"
)

// The thresholds.
const (
	CertWarn      = 30 * 24 * time.Hour
	CertFault     = 7 * 24 * time.Hour
	BackupAge     = time.Hour
	LogUploadAge  = time.Hour
	LogRotateAge  = 65 * time.Minute
	DiskWarn      = 80 // percent used
	DiskFault     = 90
	settleTries   = 3 // reads of a manifest that is being written
	settlePause   = 50 * time.Millisecond
	maxEvidence   = 10 // lines that name single images or files
	maxCommandOut = 1 << 20
	waitDelay     = time.Second // for the pipes of a stopped command
)

// Pong is what an image server's ping says.
type Pong struct {
	Version string
	State   string // of an instance with an agent in front; "" without
	Reason  string // of that state
}

// Server is one way to the image server.
type Server interface {
	URL() string
	Ping(ctx context.Context) (Pong, error)
	// Images yields the UUIDs of the active images the server lists, as they
	// arrive; channel "" is the server's default, "*" all. It ends with the first
	// error; an element that is no image is one.
	Images(ctx context.Context, channel string) iter.Seq2[string, error]
	// ImageState returns the state the server gives an image, listed or not, in
	// any channel; "" when it knows no such image.
	ImageState(ctx context.Context, uuid string) (string, error)
}

// Manta is the instance's way to its Manta, with its own key. Errors wrap
// [ErrNotFound] and [ErrAuth] where they mean that.
type Manta interface {
	Head(ctx context.Context, path string) error
	// List returns the names in a directory, at most limit.
	List(ctx context.Context, dir string, limit int) ([]string, error)
	// Read returns an object of at most limit bytes.
	Read(ctx context.Context, path string, limit int64) ([]byte, error)
}

// What an error of [Manta] means.
var (
	ErrNotFound = errors.New("not found")
	ErrAuth     = errors.New("not authorised")
)

// Output is what a command wrote and how it ended.
type Output struct {
	Stdout, Stderr []byte
	Exit           int
}

// Commands runs a command of the machine. A command that is not there is
// exec.ErrNotFound; one that ended with another status than 0 is no error.
type Commands interface {
	Run(ctx context.Context, argv []string) (Output, error)
}

// Usage is the room on a file system, in bytes and inodes. Files is 0 where
// the file system makes inodes as needed.
type Usage struct {
	Used, Available  uint64
	Files, FilesFree uint64
}

// Probe is what the checks look at.
type Probe struct {
	Instance *instance.Instance
	Now      func() time.Time
	Local    Server // the stock server on its own port
	Public   Server // what clients see: the TLS front end
	Commands Commands
	// Manta is nil where the instance has none configured, or where MantaErr says
	// why there is no client: a key that cannot be read.
	Manta    Manta
	MantaErr error
	// MantaKey is the public half of the key that Manta is asked with, as one line
	// of an authorized_keys file; "" means the .pub file beside manta.key.
	MantaKey string
	Svcs     []string // command that lists faulted services; empty means svcs -x
	Crontab  []string // command that prints root's crontab; empty means its file, or crontab -l
	Disk     func(path string) (Usage, error)
}

// New returns the checks of p in the order in which they are shown.
func New(p Probe) (*health.Registry, error) {
	r := &run{Probe: p}
	after := func(names ...string) []string { return names }
	return health.New(
		health.Check{Name: "setup", Title: "setup of the zone has finished", Run: r.setup},
		health.Check{Name: "services", Title: "SMF services", Run: r.services},
		health.Check{Name: "http_ping", Title: "image server answers", Run: r.httpPing},
		health.Check{Name: "https_ping", Title: "public address answers", DependsOn: after("http_ping"), Run: r.httpsPing},
		health.Check{Name: "certificate", Title: "TLS certificate", DependsOn: after("https_ping"), Run: r.certificate},
		health.Check{Name: "manifests", Title: "manifests on disk", Run: r.manifests},
		health.Check{Name: "image_list", Title: "image list", DependsOn: after("https_ping"), Run: r.imageList},
		health.Check{Name: "image_durability", Title: "durability of image files", Run: r.durability},
		health.Check{Name: "disk_space", Title: "disk space", Run: r.diskSpace},
		health.Check{Name: "log_rotation", Title: "log rotation", Run: r.logRotation},
		health.Check{Name: "manta_configured", Title: "Manta is configured", Run: r.mantaConfigured},
		health.Check{Name: "manta_reachable", Title: "Manta with this instance's key", Run: r.mantaReachable},
		health.Check{Name: "restore_ran", Title: "a restore has run", Run: r.restoreRan},
		health.Check{Name: "backup_configured", Title: "backup is scheduled", Run: r.backupConfigured},
		health.Check{Name: "backup_age", Title: "age of the last backup", DependsOn: after("restore_ran", "backup_configured"), Run: r.backupAge},
		health.Check{Name: "backup_result", Title: "result of the last backup", DependsOn: after("restore_ran", "manta_reachable"), Run: r.backupResult},
		health.Check{Name: "log_upload", Title: "log upload", DependsOn: after("manta_reachable"), Run: r.logUpload},
		health.Check{Name: "lock_and_instances", Title: "primary lock and other instances", DependsOn: after("manta_reachable"), Run: r.lockAndInstances},
	)
}

// run is what the checks of one run share.
type run struct {
	Probe
	localPing, publicPing memo[Pong]
	scanned               memo[*scan]
	cron                  memo[schedule]
}

// memo computes a value once, for the first that wants it. All checks of a run
// have one deadline, so the context of the first will do for all.
type memo[T any] struct {
	once sync.Once
	v    T
	err  error
}

func (m *memo[T]) get(ctx context.Context, f func(context.Context) (T, error)) (T, error) {
	m.once.Do(func() {
		m.err = errors.New("did not finish") // stands if f panics
		m.v, m.err = f(ctx)
	})
	return m.v, m.err
}

// path is a local path of the zone.
func (r *run) path(p string) string { return r.Instance.Local(p) }

// smartOS says whether the root looks like that of a zone with SMF, where the
// stock setup has been, or should have been.
func (r *run) smartOS() bool {
	st, err := os.Stat(r.path("/var/svc"))
	return err == nil && st.IsDir()
}

// age says how long ago something was, for people.
func age(d time.Duration) string {
	switch {
	case d < 0:
		return "in the future"
	case d < 2*time.Minute:
		return fmt.Sprintf("%d seconds ago", int(d.Seconds()))
	case d < 2*time.Hour:
		return fmt.Sprintf("%d minutes ago", int(d.Minutes()))
	case d < 48*time.Hour:
		return fmt.Sprintf("%d hours ago", int(d.Hours()))
	}
	return fmt.Sprintf("%d days ago", int(d.Hours()/24))
}

// stamp is a time for people: UTC, to the second.
func stamp(t time.Time) string { return t.UTC().Format("2006-01-02T15:04:05Z") }
