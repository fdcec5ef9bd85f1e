package status

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/tritonops/tritonops/pkg/health"
	"github.com/tritonops/tritonops/pkg/instance"
)

var now = time.Date(2026, 11, 22, 13, 2, 0, 0, time.UTC)

// zone is an instance on disk with all that surrounds it, healthy until a test
// breaks something.
type zone struct {
	t      testing.TB
	root   string
	probe  Probe
	local  *server
	public *server
	manta  *manta
	cmds   commands
}

// server stands for the image server: it lists what it was given.
type server struct {
	url     string
	pong    Pong
	err     error
	images  map[string]string // uuid to state
	listErr error
	channel string
}

func (s *server) URL() string                        { return s.url }
func (s *server) Ping(context.Context) (Pong, error) { return s.pong, s.err }

func (s *server) Images(_ context.Context, channel string) iter.Seq2[string, error] {
	s.channel = channel
	return func(yield func(string, error) bool) {
		for _, id := range slices.Sorted(maps.Keys(s.images)) {
			if s.images[id] == "active" && !yield(id, nil) {
				return
			}
		}
		if s.listErr != nil {
			yield("", s.listErr)
		}
	}
}

func (s *server) ImageState(_ context.Context, uuid string) (string, error) {
	return s.images[uuid], s.err
}

// manta is an area in memory.
type manta struct {
	err     error // of Head
	objects map[string]string
}

func (m *manta) Head(_ context.Context, path string) error {
	if m.err == nil && path != "/bob/stor/imgapi" {
		return fmt.Errorf("asked for %s", path)
	}
	return m.err
}

func (m *manta) List(_ context.Context, dir string, limit int) ([]string, error) {
	var names []string
	for p := range m.objects {
		if filepath.Dir(p) == dir {
			names = append(names, filepath.Base(p))
		}
	}
	if len(names) == 0 {
		return nil, fmt.Errorf("%s: %w", dir, ErrNotFound)
	}
	return names, nil
}

func (m *manta) Read(_ context.Context, path string, limit int64) ([]byte, error) {
	b, ok := m.objects[path]
	if !ok {
		return nil, fmt.Errorf("%s: %w", path, ErrNotFound)
	}
	return []byte(b), nil
}

// commands answers by the first word; an absent one is not found.
type commands map[string]Output

func (c commands) Run(_ context.Context, argv []string) (Output, error) {
	out, ok := c[argv[0]]
	if !ok {
		return Output{}, &exec.Error{Name: argv[0], Err: exec.ErrNotFound}
	}
	return out, nil
}

const mantaConfig = `,"manta":{"url":"https://manta.example.com","user":"bob","key":"/data/imgapi/etc/imgapi-x.id_ecdsa","keyId":"SHA256:x","baseDir":"imgapi"}`

const stockCron = `# comment with imgapi-standalone-backup
0 * * * * /usr/sbin/logadm -v
17 * * * * /opt/smartdc/imgapi/bin/imgapi-standalone-backup -y >>/var/log/triton/imgapi-backup.log 2>&1
`

// newZone makes a healthy zone of n active images; extra is added to the config.
func newZone(t testing.TB, n int, extra string) *zone {
	t.Helper()
	z := &zone{t: t, root: t.TempDir()}
	z.write("data/imgapi/etc/imgapi.config.json", `{"mode":"public"`+extra+`}`, 0)
	z.write("data/imgapi/etc/imgapi-x.id_ecdsa.pub", "ecdsa-sha2-nistp256 AAAAE2Vj imgapi-x\n", 0)
	z.write("data/imgapi/run/restored.marker", "restored at 2026-11-20T10:00:00\n", 0)
	z.write("data/imgapi/run/backup.status", "0\n", 44*time.Minute)
	z.write("data/imgapi/run/logupload.status", "0\n", time.Minute)
	z.write("var/svc/setup_complete", "", 48*time.Hour)
	z.write("var/spool/cron/crontabs/root", stockCron, 0)
	z.write("var/log/triton/imgapi_images0_20261122T120003.log", "", 0)
	z.write("var/log/triton/imgapi_images0_20261121T120003.log", "", 0)
	z.write("var/log/triton/imgapi-backup_images0_20261122T130001.log", "", 0)
	images := map[string]string{}
	for i := range n {
		images[z.image(i, "active", "local")] = "active"
	}
	z.local = &server{url: "http://127.0.0.1:8080", pong: Pong{Version: "4.13.1"}, images: images}
	z.public = &server{url: "http://images.example.com", pong: Pong{Version: "4.13.1"}, images: maps.Clone(images)}
	z.manta = &manta{}
	z.cmds = commands{"svcs": {}}
	z.load()
	return z
}

func (z *zone) load() {
	z.t.Helper()
	inst, err := instance.Load(z.root, "")
	if err != nil {
		z.t.Fatal(err)
	}
	z.probe = Probe{
		Instance: inst, Now: func() time.Time { return now }, Local: z.local, Public: z.public, Manta: z.manta, Commands: z.cmds,
		Disk: func(string) (Usage, error) { return Usage{Used: 50 << 30, Available: 50 << 30}, nil },
	}
}

// write makes a file whose mtime is so long ago.
func (z *zone) write(rel, text string, ago time.Duration) {
	z.t.Helper()
	path := filepath.Join(z.root, rel)
	if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, []byte(text), 0o644), os.Chtimes(path, now.Add(-ago), now.Add(-ago))); err != nil {
		z.t.Fatal(err)
	}
}

func (z *zone) remove(rel string) {
	z.t.Helper()
	if err := os.RemoveAll(filepath.Join(z.root, rel)); err != nil {
		z.t.Fatal(err)
	}
}

func uuidOf(i int) string { return fmt.Sprintf("%08x-0000-4000-8000-000000000000", i) }

// image writes a manifest the way the server does.
func (z *zone) image(i int, state, stor string) string {
	z.t.Helper()
	m := map[string]any{
		"v": 2, "uuid": uuidOf(i), "owner": instance.UnsetOwner, "name": "base", "version": "1.0", "state": state, "disabled": state == "disabled",
		"public": true, "type": "zone-dataset", "os": "smartos", "activated": state != "unactivated", "acl": []string{}, "tags": []string{},
		"files": []any{map[string]any{"sha1": strings.Repeat("a", 40), "size": 1024, "compression": "gzip", "contentMD5": "x", "stor": stor}},
	}
	if state != "unactivated" {
		m["published_at"] = "2024-01-02T03:04:05Z"
	}
	b, _ := json.MarshalIndent(m, "", "  ")
	z.write("data/imgapi/manifests/"+uuidOf(i)+".raw", string(b), time.Hour)
	return uuidOf(i)
}

func (z *zone) run() *health.Report {
	z.t.Helper()
	g, err := New(z.probe)
	if err != nil {
		z.t.Fatal(err)
	}
	rep, err := health.Runner{Now: z.probe.Now}.Run(z.t.Context(), g)
	if err != nil {
		z.t.Fatal(err)
	}
	return rep
}

// expect runs the checks and compares one outcome: its status, words of its
// summary, and words found somewhere in evidence, impact or fix.
func (z *zone) expect(name string, status health.Status, summary string, more ...string) {
	z.t.Helper()
	o, ok := z.run().Outcome(name)
	if !ok {
		z.t.Fatalf("no check %s", name)
	}
	all := strings.Join(append(append([]string{o.Impact}, o.Evidence...), o.Fix...), "\n")
	if o.Status != status || !strings.Contains(o.Summary, summary) {
		z.t.Errorf("%s: %s %q, want %s %q\n%s", name, o.Status, o.Summary, status, summary, all)
	}
	for _, m := range more {
		if !strings.Contains(all, m) {
			z.t.Errorf("%s: %q is not in\n%s", name, m, all)
		}
	}
	if (o.Status == health.Fault || o.Status == health.Warning) && (o.Impact == "" || len(o.Evidence) == 0) {
		z.t.Errorf("%s: a finding without evidence or impact: %+v", name, o.Result)
	}
}

func TestAHealthyInstanceHasNoFindings(t *testing.T) {
	rep := newZone(t, 3, mantaConfig).run()
	for _, o := range rep.Checks {
		want := health.OK
		if o.Name == "certificate" || o.Name == "lock_and_instances" {
			want = health.NotApplicable
		}
		if o.Status != want {
			t.Errorf("%s: %s %q %q", o.Name, o.Status, o.Summary, o.Evidence)
		}
		if o.Summary == "" {
			t.Errorf("%s: says nothing", o.Name)
		}
	}
}

func TestEveryCheckOfTheContractIsThere(t *testing.T) {
	g, err := New(newZone(t, 0, "").probe)
	if err != nil {
		t.Fatal(err)
	}
	want := []string{"setup", "services", "http_ping", "https_ping", "certificate", "manifests", "image_list", "image_durability", "disk_space",
		"log_rotation", "manta_configured", "manta_reachable", "restore_ran", "backup_configured", "backup_age", "backup_result", "log_upload", "lock_and_instances"}
	if got := g.Names(); !slices.Equal(got, want) {
		t.Errorf("the names are a contract:\n got %q\nwant %q", got, want)
	}
}

func TestWithoutMantaWhatNeedsItDoesNotApplyAndOneCheckWarns(t *testing.T) {
	z := newZone(t, 1, "")
	z.remove("data/imgapi/run")
	z.probe.Manta = nil
	for _, name := range []string{"manta_reachable", "restore_ran", "backup_configured", "backup_age", "backup_result", "log_upload", "lock_and_instances"} {
		z.expect(name, health.NotApplicable, "Manta is not configured")
	}
	z.expect("manta_configured", health.Warning, "not configured", "neither guarded against a second one nor backed up")
	z.expect("image_durability", health.Warning, "1 image files (1.0 KiB) are on this disk", "this disk only")
}

func TestABareDirectoryIsNoZoneAndSaysSo(t *testing.T) {
	z := newZone(t, 1, mantaConfig)
	z.remove("var")
	z.probe.Commands = commands{}
	for _, name := range []string{"setup", "services", "log_rotation", "backup_configured"} {
		z.expect(name, health.NotApplicable, "")
	}
}

func TestOneCauseIsOneFault(t *testing.T) {
	z := newZone(t, 2, mantaConfig)
	down := errors.New("connection refused")
	z.local.err, z.public.err, z.public.listErr = down, down, down
	z.manta.err = fmt.Errorf("403: %w", ErrAuth)
	z.write("data/imgapi/run/backup.status", "1\n", 44*time.Minute)
	z.write("data/imgapi/run/logupload.status", "1\n", time.Minute)
	rep := z.run()
	var faults []string
	for _, o := range rep.Checks {
		if o.Status == health.Fault {
			faults = append(faults, o.Name)
		}
	}
	if !slices.Equal(faults, []string{"http_ping", "manta_reachable"}) {
		t.Errorf("faults %q", faults)
	}
	for name, cause := range map[string]string{"https_ping": "http_ping", "image_list": "http_ping", "backup_result": "manta_reachable", "log_upload": "manta_reachable"} {
		if o, _ := rep.Outcome(name); o.Status != health.Unknown || o.Cause != cause {
			t.Errorf("%s: %s %q, cause %q", name, o.Status, o.Summary, o.Cause)
		}
	}
}
