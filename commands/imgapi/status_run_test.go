package imgapi

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func TestStatusBeforeTheFirstRestoreExplainsEachFault(t *testing.T) {
	s := newSite(t)
	s.services("svc:/smartdc/site/imgapi:default (Triton Image API)\n State: maintenance since Sun Nov 22 12:00:00 2026\nReason: Start method failed repeatedly.\n")
	code, out, errs := s.status()
	if code != 3 || errs != "" {
		t.Errorf("exit %d, stderr %q", code, errs)
	}
	s.golden("status_faults.txt", out)
	code, out, _ = s.status("-v")
	if code != 3 {
		t.Errorf("exit %d", code)
	}
	s.golden("status_faults_verbose.txt", out)
	code, out, _ = s.status("-j")
	if code != 3 {
		t.Errorf("exit %d", code)
	}
	s.golden("status_faults.json", out)
}

func TestStatusOfAHealthyInstanceIsClean(t *testing.T) {
	s := newSite(t)
	s.restored()
	code, out, errs := s.status("-v")
	if code != 0 || errs != "" {
		t.Errorf("exit %d, stderr %q", code, errs)
	}
	s.golden("status_clean_verbose.txt", out)
	if code, out, _ := s.status(); code != 0 || strings.Count(out, "\n") != 1 {
		t.Errorf("exit %d, %q: want one line", code, out)
	}
}

func TestAServerThatIsDownIsOneFaultWithFollowers(t *testing.T) {
	s := newSite(t)
	s.restored()
	s.server.Kill()
	<-s.server.Done()
	code, out, _ := s.status("-j")
	checks := decode(t, out)
	if code != 3 || checks["http_ping"]["status"] != "fault" {
		t.Errorf("exit %d, %v", code, checks["http_ping"])
	}
	for _, name := range []string{"https_ping", "image_list"} {
		if c := checks[name]; c["status"] != "unknown" || c["summary"] != "depends on http_ping" || c["cause"] != "http_ping" {
			t.Errorf("%s: %v", name, c)
		}
	}
	if c := checks["certificate"]; c["status"] != "ok" {
		t.Errorf("the front still shows its certificate: %v", c)
	}
}

func TestManifestsDroppedInAreSeenOnlyAfterARestart(t *testing.T) {
	s := newSite(t)
	s.restored()
	s.image(77)
	code, out, _ := s.status("-j")
	c := decode(t, out)["image_list"]
	if code != 3 || c["summary"] != "1 active on disk are not listed" || !strings.Contains(fmt.Sprint(c["evidence"]), imageUUID(77)) {
		t.Errorf("exit %d, %v", code, c)
	}
	s.server.Kill()
	<-s.server.Done()
	s.startServer()
	if code, out, _ := s.status(); code != 0 {
		t.Errorf("exit %d after the restart:\n%s", code, out)
	}
}

func TestAKeyThatIsAddedLaterIsAccepted(t *testing.T) {
	s := newSite(t)
	_, out, _ := s.status("-j")
	c := decode(t, out)["manta_reachable"]
	if c["status"] != "fault" || !strings.Contains(fmt.Sprint(c["evidence"]), s.keyLine) || !strings.Contains(fmt.Sprint(c["fix"]), "triton -a bob key add -n imgapi-images0-4dad5922 ") {
		t.Errorf("%v", c)
	}
	s.addKey()
	_, out, _ = s.status("-j")
	if c := decode(t, out)["manta_reachable"]; c["status"] != "ok" || !strings.Contains(fmt.Sprint(c["summary"]), "does not exist yet") {
		t.Errorf("%v", c)
	}
}

func TestAKeyThatCannotBeReadIsAFindingNotAnError(t *testing.T) {
	s := newSite(t)
	s.restored()
	s.write("data/imgapi/etc/imgapi-images0-4dad5922.id_ecdsa", "no key at all", 0)
	code, out, _ := s.status("-j")
	c := decode(t, out)["manta_reachable"]
	if code != 3 || c["status"] != "fault" || !strings.Contains(fmt.Sprint(c["summary"]), "no client") {
		t.Errorf("exit %d, %v", code, c)
	}
	if c := decode(t, out)["http_ping"]; c["status"] != "ok" {
		t.Errorf("the others were not checked: %v", c)
	}
}

func TestOverridesPointStatusAtAnotherManta(t *testing.T) {
	s := newSite(t)
	s.restored()
	code, out, _ := s.status("-j", "--manta-url", "http://127.0.0.1:1")
	if c := decode(t, out)["manta_reachable"]; code != 3 || !strings.Contains(fmt.Sprint(c["summary"]), "http://127.0.0.1:1 does not answer") {
		t.Errorf("exit %d, %v", code, c)
	}
	_, out, _ = s.status("-j", "--manta-user", "eve")
	if c := decode(t, out)["manta_reachable"]; c["status"] != "fault" || !strings.Contains(fmt.Sprint(c["fix"]), "triton -a eve") {
		t.Errorf("%v", c)
	}
	code, out, _ = s.status("-j", "--manta-key", "SHA256:"+strings.Repeat("A", 43))
	if c := decode(t, out)["manta_reachable"]; code != 3 || !strings.Contains(fmt.Sprint(c["evidence"]), "no such key") {
		t.Errorf("exit %d, %v", code, c)
	}
}

func TestADataCenterAndAnEmptyRootAreRefused(t *testing.T) {
	s := newSite(t)
	s.write("data/imgapi/etc/imgapi.config.json", `{"mode":"dc","datacenterName":"x"}`, 0)
	if code, out, errs := s.status(); code != 4 || out != "" || !strings.Contains(errs, `mode is "dc"`) {
		t.Errorf("exit %d, %q, %q", code, out, errs)
	}
	s.must(os.Remove(filepath.Join(s.root, "data/imgapi/etc/imgapi.config.json")))
	if code, _, errs := s.status(); code != 4 || !strings.Contains(errs, "no standalone image server here") {
		t.Errorf("exit %d, %q", code, errs)
	}
	s.write("data/imgapi/etc/imgapi.config.json", `{"port":`, 0)
	if code, _, errs := s.status(); code != 8 || !strings.Contains(errs, "imgapi.config.json") {
		t.Errorf("a broken configuration: exit %d, %q; nothing could be checked", code, errs)
	}
}

func TestStatusFlagsAreChecked(t *testing.T) {
	s := newSite(t)
	for _, args := range [][]string{{"--timeout", "0s"}, {"--watch=10ms"}, {"--imgapi-url", "localhost"}} {
		if code, out, errs := s.status(args...); code != 2 || out != "" || errs == "" {
			t.Errorf("%v: exit %d, %q", args, code, errs)
		}
	}
}

func TestASlowServerIsBoundedByTheTimeout(t *testing.T) {
	s := newSite(t)
	s.restored()
	hang := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { <-r.Context().Done() }))
	hang.Config.ErrorLog = log.New(io.Discard, "", 0)
	hang.StartTLS()
	t.Cleanup(hang.Close)
	s.public = hang.URL
	begin := time.Now()
	code, out, _ := s.status("-j", "--timeout", "1s")
	if d := time.Since(begin); code != 3 || d > 3*time.Second {
		t.Errorf("exit %d after %v", code, d)
	}
	if c := decode(t, out)["https_ping"]; c["summary"] != "no answer within 1s" {
		t.Errorf("%v", c)
	}
	if c := decode(t, out)["http_ping"]; c["status"] != "ok" {
		t.Errorf("%v", c)
	}
}

// hostile answers, each to be one fault of the list and no more.
func TestHostileServersAreFaultsNotCrashes(t *testing.T) {
	flood := func(w http.ResponseWriter, start, unit string) {
		w.Header().Set("Content-Type", "application/json")
		fmt.Fprint(w, start)
		for {
			if _, err := fmt.Fprint(w, unit); err != nil {
				return
			}
		}
	}
	page := strings.Repeat("a", 64<<10)
	for name, c := range map[string]struct {
		images func(w http.ResponseWriter)
		want   string
	}{
		"html": {func(w http.ResponseWriter) {
			w.Header().Set("Content-Type", "text/html")
			fmt.Fprint(w, "<html>\x1b[2J")
		}, "answer is not JSON: it is text/html"},
		"junk": {func(w http.ResponseWriter) {
			w.Header().Set("Content-Type", "application/json")
			fmt.Fprint(w, `[1,"x",null]`)
		}, "not an image"},
		"object": {func(w http.ResponseWriter) { w.Header().Set("Content-Type", "application/json"); fmt.Fprint(w, `{}`) }, "not an array"},
		"escape": {func(w http.ResponseWriter) {
			w.Header().Set("Content-Type", "application/json")
			fmt.Fprint(w, `[{"uuid":"\u001b[31mx"}]`)
		}, "uuid is"},
		"endless space":  {func(w http.ResponseWriter) { flood(w, "[", strings.Repeat(" ", 64<<10)) }, "too large"},
		"100 MB element": {func(w http.ResponseWriter) { flood(w, `[{"uuid":"`, page) }, "too large"},
	} {
		t.Run(name, func(t *testing.T) {
			s := newSite(t)
			s.restored()
			srv := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if r.URL.Path == "/ping" {
					w.Header().Set("Content-Type", "application/json")
					fmt.Fprint(w, `{"ping":"pong","version":"4.13.1","imgapi":true}`)
					return
				}
				c.images(w)
			}))
			t.Cleanup(srv.Close)
			s.public = srv.URL
			code, out, _ := s.status("-j")
			check := decode(t, out)["image_list"]
			if code != 3 || check["status"] != "fault" || !strings.Contains(fmt.Sprint(check["evidence"]), c.want) {
				t.Errorf("exit %d, %v; want %q", code, check, c.want)
			}
			if _, text, _ := s.status(); strings.Contains(text, "\x1b") {
				t.Errorf("an escape sequence reached the output: %q", text)
			}
		})
	}
}

func TestWatchOffATerminalAddsLinesAndChangesUntilInterrupted(t *testing.T) {
	s := newSite(t)
	s.restored()
	ctx, cancel := context.WithCancel(t.Context())
	time.AfterFunc(500*time.Millisecond, func() { s.server.Kill() })
	time.AfterFunc(2500*time.Millisecond, cancel)
	code, out, errs := s.statusContext(ctx, "--watch=1s")
	if code != 0 || errs != "" {
		t.Errorf("exit %d, %q: Ctrl-C is how watching ends", code, errs)
	}
	lines := strings.Split(strings.TrimSpace(out), "\n")
	if !strings.Contains(lines[0], " ok: ") || len(lines) < 3 || !strings.Contains(lines[1], " fault: ") || !strings.HasPrefix(lines[2], "  http_ping: fault: ") {
		t.Errorf("%q", lines)
	}
	if strings.Contains(out, "\x1b") || strings.Count(out, "http_ping: fault") != 1 {
		t.Errorf("off a terminal nothing is drawn and nothing repeated:\n%s", out)
	}
}

func TestWatchWithJSONWritesOneReportPerLine(t *testing.T) {
	s := newSite(t)
	s.restored()
	ctx, cancel := context.WithCancel(t.Context())
	time.AfterFunc(1700*time.Millisecond, cancel)
	code, out, _ := s.statusContext(ctx, "--watch=1s", "-j")
	lines := strings.Split(strings.TrimSpace(out), "\n")
	if code != 0 || len(lines) != 2 {
		t.Fatalf("exit %d, %d lines", code, len(lines))
	}
	for _, l := range lines {
		if !json.Valid([]byte(l)) {
			t.Errorf("%q", l)
		}
	}
}

func TestInterruptingASingleLookIs130(t *testing.T) {
	s := newSite(t)
	l, err := net.Listen("tcp", "127.0.0.1:0") // accepts, never answers
	s.must(err)
	defer l.Close()
	s.public = "http://" + l.Addr().String()
	ctx, cancel := context.WithCancel(t.Context())
	time.AfterFunc(300*time.Millisecond, cancel)
	if code, out, _ := s.statusContext(ctx); code != 130 || out != "" {
		t.Errorf("exit %d, %q", code, out)
	}
}
