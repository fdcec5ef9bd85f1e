package mantad

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/tritonops/tritonops/pkg/durable"
)

// TestMain lets the test binary be the server that the kill test kills.
func TestMain(m *testing.M) {
	if dir := os.Getenv("MANTAD_TEST_SERVE"); dir != "" {
		serveForKill(dir)
		return
	}
	os.Exit(m.Run())
}

func serveForKill(dir string) {
	s, err := New(Config{Dir: dir, Accounts: []Account{{Login: owner}}})
	if err != nil {
		fmt.Println("error", err)
		os.Exit(1)
	}
	pub, err := os.ReadFile(filepath.Join(dir, "test.pub"))
	if err == nil {
		_, err = s.AddKey(owner, "", string(pub))
	}
	if err != nil {
		fmt.Println("error", err)
		os.Exit(1)
	}
	ln, err := newListener()
	if err != nil {
		fmt.Println("error", err)
		os.Exit(1)
	}
	fmt.Println("addr", ln.Addr())
	fmt.Println("end", s.Serve(ln, nil))
}

// killable starts a server process and returns its address and how to kill it.
func killable(t *testing.T, dir string) (addr string, kill func()) {
	t.Helper()
	cmd := exec.Command(os.Args[0], "-test.run=^$")
	cmd.Env = append(os.Environ(), "MANTAD_TEST_SERVE="+dir)
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	line, err := bufio.NewReader(out).ReadString('\n')
	addr, ok := strings.CutPrefix(strings.TrimSpace(line), "addr ")
	if !ok {
		t.Fatalf("server said %q: %v", line, err)
	}
	return addr, func() {
		cmd.Process.Kill()
		cmd.Wait()
	}
}

// TestAKilledServerKeepsWholeObjectsOnly: every acknowledged object is there
// after kill -9, and nothing is there in part.
func TestAKilledServerKeepsWholeObjectsOnly(t *testing.T) {
	dir := t.TempDir()
	key := newSigner(t, "rsa")
	if err := os.WriteFile(filepath.Join(dir, "test.pub"), []byte(key.public), 0o600); err != nil {
		t.Fatal(err)
	}
	rnd := rand.New(rand.NewPCG(3, 4))
	rounds := 8
	if testing.Short() {
		rounds = 2
	}
	all, last := map[string]string{}, map[string]string{}
	for round := range rounds {
		addr, kill := killable(t, dir)
		l := &lab{t: t, plain: addr, key: key}
		l.wantObjects(last)
		for _, n := range l.names(fmt.Sprintf("/admin/stor?limit=1024&marker=r%d", max(0, round-1))) {
			if a := l.do("GET", "/admin/stor/"+n); md5Text(a.body) != a.header.Get("Content-Md5") {
				t.Fatalf("round %d: %s is there in part", round, n)
			}
		}
		last = writeUntilKilled(l, kill, round, time.Duration(50+rnd.IntN(250))*time.Millisecond)
		maps.Copy(all, last)
	}
	if len(all) == 0 {
		t.Fatal("nothing was written between the kills")
	}
	addr, kill := killable(t, dir)
	defer kill()
	(&lab{t: t, plain: addr, key: key}).wantObjects(all)
}

func (l *lab) wantObjects(want map[string]string) {
	l.t.Helper()
	for path, body := range want {
		if a := l.do("GET", path); a.status != 200 || a.body != body {
			l.t.Fatalf("%s was acknowledged: now %d, %d bytes, want %d", path, a.status, len(a.body), len(body))
		}
	}
}

// writeUntilKilled puts small and large objects from several connections and
// returns those that were acknowledged.
func writeUntilKilled(l *lab, kill func(), round int, after time.Duration) map[string]string {
	type ack struct{ path, body string }
	acks := make(chan ack, 1000)
	done := make(chan bool)
	date, authz := l.credentials()
	for w := range 4 {
		go func() {
			defer func() { done <- true }()
			for i := 0; ; i++ {
				path := fmt.Sprintf("/admin/stor/r%d-w%d-%d", round, w, i)
				size := 100 + 37*i
				if i%3 == 0 {
					size += smallBody * (1 + w)
				}
				body := strings.Repeat(fmt.Sprintf("%d%d", w, i), size/2)
				r, err := http.NewRequest("PUT", "http://"+l.plain+path, strings.NewReader(body))
				if err != nil {
					return
				}
				r.Header.Set("Date", date)
				r.Header.Set("Authorization", authz)
				res, err := http.DefaultClient.Do(r)
				if err != nil {
					return
				}
				io.Copy(io.Discard, res.Body)
				res.Body.Close()
				if res.StatusCode == 204 {
					acks <- ack{path, body}
				}
			}
		}()
	}
	time.Sleep(after)
	kill()
	got := map[string]string{}
	for ended := 0; ended < 4; {
		select {
		case a := <-acks:
			got[a.path] = a.body
		case <-done:
			ended++
		}
	}
	for len(acks) > 0 {
		a := <-acks
		got[a.path] = a.body
	}
	return got
}

func TestARestartFindsEverythingAgain(t *testing.T) {
	dir := t.TempDir()
	cfg := Config{Dir: dir, Accounts: []Account{{Login: owner}}}
	l := startLab(t, cfg, nil)
	big := strings.Repeat("0123456789abcdef", 20000)
	l.mkdir("/admin/stor/d")
	etag := l.mustPut("/admin/stor/d/small", "hello", "Content-Type: text/plain", "m-a: 1").header.Get("Etag")
	l.mustPut("/admin/stor/big", big)
	l.mustPut("/admin/stor/gone", big)
	l.do("DELETE", "/admin/stor/gone")
	l.mustPut("/admin/stor/over", big)
	l.mustPut("/admin/stor/over", "new")
	before := l.do("GET", "/admin/stor").body
	orphan := filepath.Join(dir, "objects", "00", formatUUID([16]byte{}))
	os.MkdirAll(filepath.Dir(orphan), 0o700)
	if err := os.WriteFile(orphan, []byte("a body never committed"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := l.s.Close(); err != nil {
		t.Fatal(err)
	}

	l = startLab(t, cfg, nil)
	if after := l.do("GET", "/admin/stor").body; after != before {
		t.Errorf("listing changed:\n%s\n%s", before, after)
	}
	if a := l.do("GET", "/admin/stor/d/small"); a.body != "hello" || a.header.Get("Etag") != etag || a.header.Get("m-a") != "1" || a.header.Get("Content-Type") != "text/plain" {
		t.Errorf("small: %d %q %v", a.status, a.body, a.header)
	}
	if a := l.do("GET", "/admin/stor/big"); a.body != big {
		t.Errorf("big: %d, %d bytes", a.status, len(a.body))
	}
	if _, err := os.Stat(orphan); err == nil {
		t.Error("a body nobody refers to was kept")
	}
	files, err := filepath.Glob(filepath.Join(dir, "objects", "*", "*"))
	if err != nil || len(files) != 1 {
		t.Errorf("files of large objects: %v %v", files, err)
	}
}

func TestATornLastRecordIsCutOffAndOtherDamageIsRefused(t *testing.T) {
	dir := t.TempDir()
	cfg := Config{Dir: dir, Accounts: []Account{{Login: owner}}}
	l := startLab(t, cfg, nil)
	l.mustPut("/admin/stor/a", "1")
	l.mustPut("/admin/stor/b", "2")
	l.s.Close()
	path := filepath.Join(dir, "meta.log")
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	// second begins the record of b.
	second := len(logMagic) + 8 + int(binary.LittleEndian.Uint32(whole[len(logMagic):]))
	for cut := second; cut < len(whole); cut++ {
		if err := os.WriteFile(path, whole[:cut], 0o600); err != nil {
			t.Fatal(err)
		}
		s, err := openStore(dir)
		if err != nil {
			t.Fatalf("cut at %d: %v", cut, err)
		}
		if s.get("/admin/stor/a") == nil || s.get("/admin/stor/b") != nil {
			t.Fatalf("cut at %d: a %v, b %v", cut, s.get("/admin/stor/a"), s.get("/admin/stor/b"))
		}
		s.close()
	}
	for _, at := range []int{3, len(logMagic) + 9, len(whole) - 1} {
		bad := bytes.Clone(whole)
		bad[at] ^= 1
		os.WriteFile(path, bad, 0o600)
		if s, err := openStore(dir); err == nil {
			s.close()
			t.Errorf("damage at %d was not noticed", at)
		}
	}
}

func TestTheLogIsRewrittenWhenItIsMostlyHistory(t *testing.T) {
	dir := t.TempDir()
	s, err := openStore(dir)
	if err != nil {
		t.Fatal(err)
	}
	for i := range 5000 {
		if err := s.put("/admin/stor/lease", &entry{id: newID(), ctype: "x/y", mtime: int64(i)}, nil); err != nil {
			t.Fatal(err)
		}
	}
	s.close()
	for range 2 {
		if s, err = openStore(dir); err != nil {
			t.Fatal(err)
		}
		if e := s.get("/admin/stor/lease"); e == nil || e.mtime != 4999 || s.log.recs != 1 {
			t.Fatalf("%+v, %d records", e, s.log.recs)
		}
		s.close()
	}
}

func TestOneProcessAtATimeUsesADirectory(t *testing.T) {
	dir := t.TempDir()
	s, err := New(Config{Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	var held *durable.HeldError
	if _, err := New(Config{Dir: dir}); !errors.As(err, &held) {
		t.Errorf("second server: %v", err)
	}
}

func TestBodiesThatWereReplacedFreeTheirRoom(t *testing.T) {
	l := newLab(t)
	body := strings.Repeat("x", smallBody)
	date, authz := l.credentials()
	for range 3 * packSize / smallBody {
		r, err := http.NewRequest("PUT", "http://"+l.plain+"/admin/stor/o", strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("Date", date)
		r.Header.Set("Authorization", authz)
		res, err := l.client.Do(r)
		if err != nil || res.StatusCode != 204 {
			t.Fatal(res, err)
		}
		res.Body.Close()
	}
	if a := l.do("GET", "/admin/stor/o"); a.body != body {
		t.Errorf("%d, %d bytes", a.status, len(a.body))
	}
	packs, err := filepath.Glob(filepath.Join(l.s.cfg.Dir, "packs", "*"))
	if err != nil || len(packs) > 2 {
		t.Errorf("packs: %v %v", packs, err)
	}
}

func FuzzRecord(f *testing.F) {
	e := &entry{dir: false, copies: 2, pack: 3, off: 4, size: 5, mtime: 6, ctype: "text/plain", attrs: []attr{{"m-a", "b"}}}
	f.Add(appendRecord(nil, "/a/stor/b", e)[8:])
	f.Add(appendRecord(nil, "/a/stor/b", nil)[8:])
	f.Fuzz(func(t *testing.T, p []byte) {
		r, err := parseRecord(p)
		if err != nil {
			return
		}
		var again []byte
		if r.op == opDelete {
			again = appendRecord(nil, string(r.key), nil)
		} else {
			e := r.e
			e.ctype = string(r.ctype)
			again = appendRecord(nil, string(r.key), &e)
		}
		r2, err := parseRecord(again[8:])
		if err != nil || string(r2.key) != string(r.key) || r2.e.size != r.e.size || r2.e.mtime != r.e.mtime || len(r2.e.attrs) != len(r.e.attrs) {
			t.Fatalf("%x: does not survive: %v", p, err)
		}
	})
}
