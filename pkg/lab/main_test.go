package lab

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/tritonops/tritonops/pkg/fail"
)

// TestMain lets this test binary stand for the program: shims and detached labs
// call it with "lab" as its first word.
func TestMain(m *testing.M) {
	if len(os.Args) > 2 && os.Args[1] == "lab" {
		os.Exit(program(os.Args[2], os.Args[3:]))
	}
	os.Exit(m.Run())
}

func program(verb string, args []string) int {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, os.Interrupt)
	defer stop()
	switch verb {
	case "shim":
		return ShimCall{Dir: args[1], Instance: args[3], Name: args[4], Args: args[5:], Stdin: os.Stdin, Stdout: os.Stdout, Stderr: os.Stderr}.Run(ctx)
	case "up":
		cfg := Config{Dir: args[0], Binary: os.Args[0]}
		fmt.Sscan(args[1], &cfg.Instances)
		fmt.Sscan(args[2], &cfg.DCs)
		l, err := Up(ctx, cfg)
		if err != nil {
			fmt.Fprintf(os.Stderr, "lab: %v\n", err)
			for _, h := range fail.Hints(err) {
				fmt.Fprintf(os.Stderr, "hint: %s\n", h)
			}
			return int(fail.CodeOf(err))
		}
		select {
		case <-ctx.Done():
		case <-l.Stopped():
		}
		if l.Close() != nil {
			return 1
		}
		return 0
	}
	return 2
}

// up starts a lab in the test's process.
func up(t *testing.T, cfg Config) *Lab {
	t.Helper()
	if cfg.Dir == "" {
		cfg.Dir = t.TempDir()
	}
	if cfg.RestartDelay == 0 {
		cfg.RestartDelay = 30 * time.Millisecond
	}
	cfg.Stall = 100 * time.Millisecond
	l, err := Up(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := l.Close(); err != nil {
			t.Error(err)
		}
	})
	return l
}

func connect(t *testing.T, dir string) *Client {
	t.Helper()
	c, err := Connect(dir)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// loose trusts every certificate, as curl -k.
func loose() *http.Client {
	return &http.Client{Timeout: 20 * time.Second, Transport: &http.Transport{DisableKeepAlives: true, TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}}
}

func fetch(t *testing.T, url string) (int, []byte, error) {
	t.Helper()
	res, err := loose().Get(url)
	if err != nil {
		return 0, nil, err
	}
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	return res.StatusCode, b, err
}

func wantStatus(t *testing.T, url string, want int) []byte {
	t.Helper()
	status, b, err := fetch(t, url)
	if err != nil || status != want {
		t.Fatalf("GET %s: %d %v, want %d: %s", url, status, err, want, b)
	}
	return b
}

func waitFor(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); !ok(); {
		if time.Now().After(deadline) {
			t.Fatalf("%s did not come", what)
		}
		time.Sleep(10 * time.Millisecond)
	}
}

// sh runs a shell command in an instance's environment.
func sh(t *testing.T, s *State, instance, script string) (string, int) {
	t.Helper()
	vars, err := s.Env(instance)
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("sh", "-c", script)
	cmd.Env = Environ(os.Environ(), vars)
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	err = cmd.Run()
	if ee, ok := err.(*exec.ExitError); ok {
		return out.String(), ee.ExitCode()
	}
	if err != nil {
		t.Fatal(err)
	}
	return out.String(), 0
}

func code(err error) fail.Code { return fail.CodeOf(err) }

func TestUpServesEverythingAndContinuesWhereItStopped(t *testing.T) {
	dir := t.TempDir()
	l := up(t, Config{Dir: dir, Instances: 2, Channels: true})
	first := l.State()
	for _, in := range first.Instances {
		wantStatus(t, in.URL+"/ping", 200)
		wantStatus(t, in.LocalURL()+"/images", 200)
		z := zone{&in}
		if !z.rotatedThisHour(time.Now()) {
			t.Errorf("%s: logs not rotated", in.Name)
		}
		if b, err := os.ReadFile(z.data("run", "logupload.status")); err != nil || string(b) != "0\n" {
			t.Errorf("%s: log upload status %q %v", in.Name, b, err)
		}
		conf, err := z.readConfig()
		if err != nil || conf.Manta.KeyID != in.KeySHA256 || conf.Manta.URL != first.Manta.URL || !strings.HasPrefix(conf.Manta.Key, "/data/imgapi/etc/imgapi-"+in.Name+"-") {
			t.Errorf("config %+v %v", conf.Manta, err)
		}
		if _, err := os.Stat(z.path("root", ".ssh", filepath.Base(in.Key))); err != nil {
			t.Error(err)
		}
		if _, err := os.Stat(z.data("run", "restored.marker")); err == nil {
			t.Error("a new instance must not count as restored")
		}
	}
	if n := l.Manta().Stats().Methods["PUT"]; n == 0 {
		t.Error("no log reached Manta")
	}
	if status, _, _ := fetch(t, first.Manta.URL+"/bob/stor"); status == 200 {
		t.Error("Manta answers without a signature")
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	again := up(t, Config{Dir: dir, Instances: 1}).State()
	a, _ := json.Marshal(first)
	b, _ := json.Marshal(again)
	if string(a) != string(b) {
		t.Errorf("the lab changed:\n%s\n%s", a, b)
	}
	wantStatus(t, again.Instances[1].URL+"/ping", 200)
}

func TestWrongRequestsAreRefused(t *testing.T) {
	dir := t.TempDir()
	up(t, Config{Dir: dir, Instances: 1})
	if _, err := Up(t.Context(), Config{Dir: dir}); code(err) != fail.Held || !strings.Contains(err.Error(), "lab up (pid") {
		t.Errorf("second lab: %v", err)
	}
	full := t.TempDir()
	if err := os.WriteFile(filepath.Join(full, "precious"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	newer := t.TempDir()
	if err := os.WriteFile(filepath.Join(newer, "lab.json"), []byte(`{"version":99}`), 0o600); err != nil {
		t.Fatal(err)
	}
	damaged := t.TempDir()
	if err := os.WriteFile(filepath.Join(damaged, "lab.json"), []byte(`{"vers`), 0o600); err != nil {
		t.Fatal(err)
	}
	moved := t.TempDir()
	b, _ := os.ReadFile(filepath.Join(dir, "lab.json"))
	if err := os.WriteFile(filepath.Join(moved, "lab.json"), b, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		cfg  Config
		code fail.Code
		text string
	}{
		{Config{Dir: t.TempDir(), DCs: 2}, fail.Refused, "2 data centers"},
		{Config{Dir: full}, fail.Refused, "precious"},
		{Config{Dir: newer}, fail.Refused, "newer tritonops"},
		{Config{Dir: damaged}, fail.Failed, "damaged"},
		{Config{Dir: moved}, fail.Refused, "cannot be moved"},
		{Config{Dir: t.TempDir(), Instances: 99}, fail.Usage, "99 instances"},
		{Config{Dir: t.TempDir(), Account: "../x"}, fail.Usage, "not a login"},
		{Config{}, fail.Usage, "no directory"},
	} {
		if _, err := Up(t.Context(), c.cfg); code(err) != c.code || !strings.Contains(err.Error(), c.text) {
			t.Errorf("%+v: %d %v", c.cfg, code(err), err)
		}
	}
	if _, err := Reflect(t.TempDir()); code(err) != fail.Refused || len(fail.Hints(err)) == 0 {
		t.Errorf("reflect on nothing: %v", err)
	}
}

func TestServicesRestartStayDisabledAndEndInMaintenance(t *testing.T) {
	dir := t.TempDir()
	l := up(t, Config{Dir: dir, Instances: 1})
	c, in := connect(t, dir), l.State().Instances[0]
	status, err := c.Service(t.Context(), "images0", "imgapi", "crash", false)
	if err != nil {
		t.Fatal(err)
	}
	waitFor(t, "the restart", func() bool { return l.services["images0"][0].status().Starts == 2 })
	wantStatus(t, in.URL+"/ping", 200)
	if _, err := c.Service(t.Context(), "images0", "imgapi", "disable", false); err != nil {
		t.Fatal(err)
	}
	if _, _, err := fetch(t, in.LocalURL()+"/ping"); err == nil {
		t.Error("answers although disabled")
	}
	if b := wantStatus(t, in.URL+"/ping", 503); !strings.Contains(string(b), "<h1>503 Service Unavailable</h1>") {
		t.Errorf("front: %s", b)
	}
	if _, err := c.Service(t.Context(), "images0", "imgapi", "crash", false); code(err) != fail.Failed {
		t.Errorf("crash of a disabled service: %v", err)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	l = up(t, Config{Dir: dir, RestartDelay: time.Millisecond})
	if s := l.services["images0"][0].status(); s.State != stateDisabled {
		t.Errorf("after a restart of the lab: %s", s.State)
	}
	if s, err := c.Service(t.Context(), "images0", "imgapi", "enable", false); err != nil || s.State != stateOnline {
		t.Fatalf("%+v %v", s, err)
	}
	for i := range deathLimit {
		waitFor(t, "online", func() bool { return l.services["images0"][0].status().State == stateOnline })
		if status, err = c.Service(t.Context(), "images0", "imgapi", "crash", false); err != nil {
			t.Fatal(i, err)
		}
	}
	waitFor(t, "maintenance", func() bool { return l.services["images0"][0].status().State == stateMaintenance })
	if s, err := c.Service(t.Context(), "images0", "imgapi", "clear", false); err != nil || s.State != stateOnline {
		t.Errorf("clear: %+v %v (after %s)", s, err, status.State)
	}
	if _, err := c.Service(t.Context(), "images9", "imgapi", "crash", false); code(err) != fail.Usage {
		t.Errorf("unknown instance: %v", err)
	}
	if _, err := c.Service(t.Context(), "images0", "sshd", "crash", false); code(err) != fail.Usage {
		t.Errorf("unknown service: %v", err)
	}
}

func TestTheFrontReadsItsCertificateAtStart(t *testing.T) {
	dir := t.TempDir()
	l := up(t, Config{Dir: dir, Instances: 1})
	in := l.State().Instances[0]
	serial := func() string {
		conn, err := tls.Dial("tcp", loopback(in.HTTPSPort), &tls.Config{InsecureSkipVerify: true})
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		cert := conn.ConnectionState().PeerCertificates[0]
		if cert.Subject.CommonName != "*" {
			t.Errorf("common name %q", cert.Subject.CommonName)
		}
		return cert.SerialNumber.String()
	}
	before := serial()
	path := zone{&in}.data("etc", "cert.pem")
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	if err := makeCert(path, "*", time.Now()); err != nil {
		t.Fatal(err)
	}
	if serial() != before {
		t.Error("read without a restart")
	}
	if _, err := connect(t, dir).Service(t.Context(), "images0", "haproxy", "restart", false); err != nil {
		t.Fatal(err)
	}
	if serial() == before {
		t.Error("not read at the restart")
	}
}
