package lab

import (
	"bytes"
	"context"
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/tritonops/tritonops/pkg/durable"
	"github.com/tritonops/tritonops/pkg/fail"
	"github.com/tritonops/tritonops/pkg/lab/fault"
	"golang.org/x/crypto/ssh"
)

func TestDetachKillNineUpAgainAndDown(t *testing.T) {
	dir := t.TempDir()
	st, err := Detach(t.Context(), dir, os.Args[0], []string{"lab", "up", dir, "1", "1"})
	if err != nil {
		t.Fatal(err)
	}
	in := st.Instances[0]
	wantStatus(t, in.URL+"/ping", 200)
	if _, err := connect(t, dir).Seed(t.Context(), "images0", SeedRequest{Images: 30, Files: -1, Seed: 5}); err != nil {
		t.Fatal(err)
	}
	images := wantStatus(t, in.URL+"/images", 200)
	if err := syscall.Kill(st.PID, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	waitFor(t, "the death", func() bool { return syscall.Kill(st.PID, 0) == syscall.ESRCH })
	if _, err := connect(t, dir).Status(t.Context()); code(err) != fail.Unreachable {
		t.Errorf("status of a dead lab: %v", err)
	}
	again, err := Detach(t.Context(), dir, os.Args[0], []string{"lab", "up", dir, "1", "1"})
	if err != nil {
		t.Fatal(err)
	}
	if again.PID == st.PID || again.Instances[0].URL != in.URL || again.Manta != st.Manta {
		t.Errorf("%+v instead of %+v", again.State, st.State)
	}
	if got := wantStatus(t, in.URL+"/images", 200); !bytes.Equal(got, images) {
		t.Error("images changed")
	}
	if _, err := Detach(t.Context(), dir, os.Args[0], []string{"lab", "up", dir, "1", "1"}); code(err) != fail.Held || len(fail.Hints(err)) != 1 {
		t.Errorf("detach of a second lab: %d %v", code(err), err)
	}
	if _, err := Detach(t.Context(), t.TempDir(), os.Args[0], []string{"lab", "up", filepath.Join(t.TempDir(), "x"), "1", "3"}); code(err) != fail.Refused || !strings.Contains(err.Error(), "3 data centers") {
		t.Errorf("refused detach: %d %v", code(err), err)
	}
	if was, err := Down(t.Context(), dir); err != nil || !was {
		t.Fatalf("down: %v %v", was, err)
	}
	if _, _, err := fetch(t, in.URL+"/ping"); err == nil {
		t.Error("still answers")
	}
	if was, err := Down(t.Context(), dir); err != nil || was {
		t.Errorf("down twice: %v %v", was, err)
	}
}

func TestDownNeverKillsAProcessThatDoesNotAnswer(t *testing.T) {
	dir := t.TempDir()
	if err := up(t, Config{Dir: dir}).Close(); err != nil {
		t.Fatal(err)
	}
	lock, err := durable.Acquire(filepath.Join(dir, "lock"), "something else")
	if err != nil {
		t.Fatal(err)
	}
	defer lock.Release()
	if _, err := Down(t.Context(), dir); code(err) != fail.Held || !strings.Contains(err.Error(), "something else (pid") {
		t.Errorf("%d %v", code(err), err)
	}
}

func TestFaultsAreKeptOverARestart(t *testing.T) {
	dir := t.TempDir()
	l := up(t, Config{Dir: dir, Instances: 1})
	c, in := connect(t, dir), l.State().Instances[0]
	f, err := c.AddFault(t.Context(), fault.Fault{Kind: fault.Status, Service: "imgapi", Instance: "images0", Path: "/ping", Status: 500})
	if err != nil {
		t.Fatal(err)
	}
	wantStatus(t, in.URL+"/ping", 500)
	for _, bad := range []fault.Fault{{Kind: "nonsense"}, {Kind: fault.Latency}, {Kind: fault.Status, Service: "ufds"}, {Kind: fault.Status, Instance: "images7"}} {
		if _, err := c.AddFault(t.Context(), bad); code(err) != fail.Usage {
			t.Errorf("%+v: %v", bad, err)
		}
	}
	if _, err := c.ClearFaults(t.Context(), "nope"); code(err) != fail.Usage {
		t.Errorf("unknown fault: %v", err)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	up(t, Config{Dir: dir})
	wantStatus(t, in.URL+"/ping", 500)
	if list, err := c.Faults(t.Context()); err != nil || len(list) != 1 || list[0].ID != f.ID {
		t.Errorf("%v %v", list, err)
	}
	if n, err := c.ClearFaults(t.Context(), ""); err != nil || n != 1 {
		t.Errorf("%d %v", n, err)
	}
	wantStatus(t, in.URL+"/ping", 200)
	kinds, err := c.FaultKinds(t.Context())
	if err != nil || !slices.ContainsFunc(kinds, func(k fault.KindHelp) bool { return k.Kind == "crash-mid-write" }) {
		t.Errorf("%v %v", kinds, err)
	}
}

func TestTheOperatorsKeySignsWritesThroughTheFront(t *testing.T) {
	l := up(t, Config{Instances: 1})
	s := l.State()
	pemBytes, err := os.ReadFile(s.Operator.Key)
	if err != nil {
		t.Fatal(err)
	}
	parsed, err := ssh.ParseRawPrivateKey(pemBytes)
	if err != nil {
		t.Fatal(err)
	}
	body := `{"name":"x","version":"1","os":"linux","type":"other","public":true,"owner":"930896af-bf8c-48d4-885c-6573a94b1853"}`
	req, err := http.NewRequest("POST", s.Instances[0].URL+"/images", strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	date := time.Now().UTC().Format(http.TimeFormat)
	sum := sha256.Sum256([]byte("date: " + date))
	raw, err := rsa.SignPKCS1v15(rand.Reader, parsed.(*rsa.PrivateKey), crypto.SHA256, sum[:])
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("Date", date)
	req.Header.Set("Authorization", fmt.Sprintf(`Signature keyId="%s",algorithm="rsa-sha256",headers="date",signature="%s"`, s.Operator.User, base64.StdEncoding.EncodeToString(raw)))
	res, err := loose().Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	var im map[string]any
	if err := json.NewDecoder(res.Body).Decode(&im); err != nil || res.StatusCode != 200 {
		t.Fatalf("%d %v %v", res.StatusCode, im, err)
	}
	manifest := zone{&s.Instances[0]}.data("manifests", im["uuid"].(string)+".raw")
	if _, err := os.Stat(manifest); err != nil {
		t.Error(err)
	}
	up, err := newUploader(s.Manta.URL, s.Account, s.Operator.Key)
	if err != nil {
		t.Fatal(err)
	}
	if err := up.put(t.Context(), "/bob/stor/a/b", []byte("x")); err != nil {
		t.Errorf("the operator's key on Manta: %v", err)
	}
}

func TestAnInstanceKeyThatIsNotOnTheAccount(t *testing.T) {
	dir := t.TempDir()
	l := up(t, Config{Dir: dir, Instances: 1, NoInstanceKey: true})
	s, c := l.State(), connect(t, dir)
	status := filepath.Join(s.Instances[0].Root, "data/imgapi/run/logupload.status")
	want := func(text string) {
		t.Helper()
		if b, err := os.ReadFile(status); err != nil || string(b) != text {
			t.Errorf("status %q %v, want %q", b, err, text)
		}
	}
	want("1\n")
	if err := c.AddKey(t.Context(), KeyRequest{Instance: "images0"}); err != nil {
		t.Fatal(err)
	}
	if err := c.Cron(t.Context(), "images0"); err != nil {
		t.Error(err)
	}
	want("0\n")
	if err := c.RemoveKey(t.Context(), KeyRequest{Instance: "images0"}); err != nil {
		t.Fatal(err)
	}
	if err := c.Cron(t.Context(), "images0"); err == nil || !strings.Contains(err.Error(), "403") {
		t.Errorf("upload with a revoked key: %v", err)
	}
	want("1\n")
	if err := c.AddKey(t.Context(), KeyRequest{Key: "junk"}); code(err) != fail.Usage {
		t.Errorf("junk key: %v", err)
	}
}

func TestInstancesWithoutMantaUploadNothing(t *testing.T) {
	l := up(t, Config{Instances: 1, NoManta: true, Mode: "private"})
	in := l.State().Instances[0]
	conf, err := zone{&in}.readConfig()
	if err != nil || conf.Manta != nil || conf.Mode != "private" || in.KeyOnAccount {
		t.Errorf("%+v %v", conf, err)
	}
	if _, err := os.Stat(zone{&in}.data("run", "logupload.status")); err == nil {
		t.Error("an upload was tried")
	}
}

func TestShimsStandForTheCommandsOfAZone(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "a lab's dir")
	l := up(t, Config{Dir: dir, Instances: 1, Binary: os.Args[0]})
	s := l.State()
	in := s.Instances[0]
	check := func(script string, status int, want string) {
		t.Helper()
		if out, got := sh(t, &s, "images0", script); got != status || !strings.Contains(out, want) {
			t.Errorf("%s: exit %d, %q; want %d and %q", script, got, out, status, want)
		}
	}
	pub, err := zone{&in}.publicKey()
	if err != nil {
		t.Fatal(err)
	}
	check("zonename", 0, in.Zonename)
	check("hostname", 0, in.Hostname)
	check("mdata-get sdc:alias", 0, "images0")
	check("mdata-get instPubKey", 0, pub)
	check("mdata-get nothing", 1, "No metadata for 'nothing'")
	check("crontab -l", 0, "17 * * * * /opt/smartdc/imgapi/bin/imgapi-standalone-backup -y")
	check("crontab -l | grep -v backup | crontab && crontab -l | wc -l", 0, "3")
	check("crontab -e", 2, "the lab knows")
	check("svcs", 0, "online")
	check("svcs -H svc:/site/haproxy:default", 0, "svc:/site/haproxy:default")
	check("svcs nothing", 1, "Pattern 'nothing' doesn't match any instances")
	check("svcadm disable -s imgapi && svcs -H imgapi", 0, "disabled")
	if out, status := sh(t, &s, "images0", "svcs -x"); out != "" || status != 0 {
		t.Errorf("a disabled service is not explained: %q %d", out, status)
	}
	check("svcs -x imgapi", 0, "Reason: Disabled by an administrator.")
	check("svcadm enable -s imgapi && svcadm restart imgapi && svcs -H imgapi", 0, "online")
	check("svcadm frobnicate imgapi", 2, "the lab knows")
	config := zone{&in}.data("etc", "imgapi.config.json")
	if err := os.WriteFile(config, []byte("{"), 0o644); err != nil {
		t.Fatal(err)
	}
	check("svcadm restart imgapi; sleep 1; svcs -x", 0, "State: maintenance")
	check("svcadm enable -s imgapi", 3, "maintenance")
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	check("svcs", 1, "the lab is down")
	check("zonename", 0, in.Zonename)
}

func TestEnvIsSafeToEvaluate(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "it's $HOME `x` \"q\"\nline")
	s := up(t, Config{Dir: dir, Instances: 1, Binary: os.Args[0]}).State()
	vars, err := s.Env("images0")
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("sh", "-c", `eval "$SCRIPT"; printf '%s|%s|%s|%s|' "$TRITONOPS_ROOT" "$MANTA_USER" "$HOME" "${MANTA_ROLE-unset}"; command -v zonename`)
	cmd.Env = []string{"SCRIPT=" + RenderSh(vars), "PATH=" + os.Getenv("PATH"), "MANTA_ROLE=x"}
	out, err := cmd.CombinedOutput()
	root := s.Instances[0].Root
	want := root + "|bob|" + filepath.Join(root, "root") + "|unset|" + filepath.Join(dir, "bin", "images0", "zonename") + "\n"
	if err != nil || string(out) != want {
		t.Errorf("%q %v\nwant %q", out, err, want)
	}
	if _, err := s.Env("nope"); code(err) != fail.Usage {
		t.Errorf("%v", err)
	}
	operator, err := s.Env("")
	if err != nil || slices.ContainsFunc(operator, func(v Var) bool { return v.Name == "TRITONOPS_ROOT" }) {
		t.Errorf("%v %v", operator, err)
	}
	got := Environ([]string{"A=1", "PATH=/bin", "MANTA_ROLE=r"}, []Var{{Name: "PATH", Value: "/x", Prepend: true}, {Name: "MANTA_ROLE", Unset: true}, {Name: "B", Value: "2"}})
	if !slices.Equal(got, []string{"A=1", "PATH=/x:/bin", "B=2"}) {
		t.Errorf("%v", got)
	}
}

func TestTheControlSocketIsPrivateAndMovesWhenThePathIsLong(t *testing.T) {
	dir := filepath.Join(t.TempDir(), strings.Repeat("long", 30))
	l := up(t, Config{Dir: dir})
	path := l.State().Control
	if strings.HasPrefix(path, dir) || len(path) > maxSocketPath {
		t.Errorf("socket at %s", path)
	}
	fi, err := os.Stat(path)
	if err != nil || fi.Mode().Perm() != 0o600 {
		t.Errorf("%v %v", fi, err)
	}
	if st, err := connect(t, dir).Status(t.Context()); err != nil || st.PID != os.Getpid() || st.Notice != Notice {
		t.Errorf("%+v %v", st, err)
	}
	res, err := connect(t, dir).http.Post("http://lab/keys", "application/json", strings.NewReader(`{"unknown":1}`))
	if err != nil || res.StatusCode != http.StatusUnprocessableEntity {
		t.Errorf("unknown member: %v %v", res, err)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Dir(path)); err == nil {
		t.Error("the socket's directory is left behind")
	}
	if err := os.Mkdir(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	defer os.Remove(filepath.Dir(path))
	if _, err := Up(t.Context(), Config{Dir: dir}); code(err) != fail.Refused {
		t.Errorf("a directory others may use: %v", err)
	}
}

func TestATakenPortIsTold(t *testing.T) {
	dir := t.TempDir()
	l := up(t, Config{Dir: dir, Instances: 1})
	s := l.State()
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	other := &http.Server{Addr: loopback(s.Instances[0].HTTPSPort)}
	go other.ListenAndServe()
	defer other.Close()
	waitFor(t, "the other server", func() bool { _, _, err := fetch(t, "http://"+other.Addr); return err == nil })
	if _, err := Up(t.Context(), Config{Dir: dir}); code(err) != fail.Held || !strings.Contains(err.Error(), "address already in use") {
		t.Errorf("%d %v", code(err), err)
	}
}

func TestUploadTargetsAreTheHourBefore(t *testing.T) {
	for name, want := range map[string]string{
		"imgapi_imgapi-images0-abc_20260101T001500.log": "imgapi/2025/12/31/23/imgapi-images0-abc.log",
		"imgapi_x.log": "", "a_b_c.log": "", "a_b_20260101T001500.txt": "", "": "",
	} {
		if got, ok := uploadTarget(name); got != want || ok != (want != "") {
			t.Errorf("%q: %q %v", name, got, ok)
		}
	}
}

func TestUpHonoursACancelledContext(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	dir := t.TempDir()
	if _, err := Up(ctx, Config{Dir: dir, Instances: 1}); err == nil {
		t.Fatal("came up")
	}
	up(t, Config{Dir: dir, Instances: 1}) // and left the directory usable
}

func FuzzShellQuote(f *testing.F) {
	for _, s := range []string{"", "a b", "it's", "$x`y`\"\\\n", "-n", "'; rm x"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if strings.ContainsRune(s, 0) {
			return
		}
		out, err := exec.Command("sh", "-c", "printf '%s' "+shQuote(s)).Output()
		if err != nil || string(out) != s {
			t.Errorf("%q becomes %q: %v", s, out, err)
		}
	})
}
