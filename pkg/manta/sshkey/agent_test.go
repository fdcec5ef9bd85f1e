package sshkey

import (
	"crypto/ed25519"
	"errors"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"golang.org/x/crypto/ssh/agent"
)

// serveAgent runs an ssh-agent on a unix socket.
func serveAgent(t *testing.T, keys ...any) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "agent") // short: socket paths are
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	ring := agent.NewKeyring()
	for _, k := range keys {
		if err := ring.Add(agent.AddedKey{PrivateKey: k, Comment: "from agent"}); err != nil {
			t.Fatal(err)
		}
	}
	l, err := net.Listen("unix", filepath.Join(dir, "s"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() { defer c.Close(); agent.ServeAgent(ring, c) }()
		}
	}()
	return filepath.Join(dir, "s")
}

func TestTheAgentSignsWithTheKeyNamedInAnyForm(t *testing.T) {
	keys := privateKeys(t)
	ed := keys["ed25519"].(ed25519.PrivateKey)
	socket := serveAgent(t, keys["rsa"], keys["p256"], keys["p384"], keys["p521"], &ed)
	dir := t.TempDir()
	for kind, priv := range keys {
		ref, err := New(priv, "ref")
		if err != nil {
			t.Fatal(err)
		}
		path := filepath.Join(dir, kind)
		write(t, path+".pub", []byte(ref.AuthorizedKey()+" someone@host\n"), 0o644)
		for _, id := range []string{ref.MD5(), "MD5:" + strings.ReplaceAll(ref.MD5(), ":", ""), ref.SHA256(), path, path + ".pub"} {
			k, err := FromAgent(t.Context(), socket, id)
			if kind == "p384" {
				if !errors.Is(err, ErrBadKey) || !strings.Contains(err.Error(), "SHA-384") {
					t.Errorf("P-384 by %s: %v", id, err)
				}
				continue
			}
			if err != nil {
				t.Fatalf("%s by %s: %v", kind, id, err)
			}
			if k.MD5() != ref.MD5() || !strings.HasSuffix(k.AuthorizedKey(), " from agent") {
				t.Errorf("%s by %s: %s", kind, id, k.AuthorizedKey())
			}
			var wg sync.WaitGroup
			for range 4 {
				wg.Go(func() { verifies(t, k, []byte("text")) })
			}
			wg.Wait()
		}
	}
	if _, err := FromAgent(t.Context(), socket, strings.Repeat("00", 16)); !errors.Is(err, ErrNotFound) {
		t.Errorf("a key it has not: %v", err)
	}
	if _, err := FromAgent(t.Context(), filepath.Join(dir, "none"), strings.Repeat("00", 16)); err == nil || errors.Is(err, ErrNotFound) {
		t.Errorf("no agent: %v", err)
	}
}

func TestFindLooksInTheFileThenTheAgentThenTheDirectory(t *testing.T) {
	keys := privateKeys(t)
	dir := t.TempDir()
	enc := func(kind, form string) []byte { return encodings(t, keys[kind])[form] }
	ref := map[string]*Key{}
	for kind, priv := range keys {
		k, err := New(priv, kind)
		if err != nil {
			t.Fatal(err)
		}
		ref[kind] = k
	}
	write(t, filepath.Join(dir, "config"), []byte("Host *"), 0o600)
	plain := write(t, filepath.Join(dir, "plain"), enc("p256", "traditional"), 0o600)
	locked := write(t, filepath.Join(dir, "locked"), enc("p521", "traditional, encrypted"), 0o600)
	write(t, locked+".pub", []byte(ref["p521"].AuthorizedKey()), 0o644)
	sealed := write(t, filepath.Join(dir, "sealed"), enc("ed25519", "openssh, encrypted"), 0o600)
	socket := serveAgent(t, keys["rsa"])
	ask := func(string) ([]byte, error) { return []byte("secret"), nil }
	for name, tc := range map[string]struct {
		w      Where
		origin string
		is     error
	}{
		"agent":              {Where{ID: ref["rsa"].MD5(), AgentSocket: socket, Dir: dir}, "ssh-agent", nil},
		"directory":          {Where{ID: ref["p256"].SHA256(), AgentSocket: socket, Dir: dir}, plain, nil},
		"agent gone":         {Where{ID: ref["p256"].SHA256(), AgentSocket: socket + "x", Dir: dir}, plain, nil},
		"locked, by .pub":    {Where{ID: ref["p521"].MD5(), Dir: dir, Ask: ask}, locked, nil},
		"sealed, by itself":  {Where{ID: ref["ed25519"].MD5(), Dir: dir, Ask: ask}, sealed, nil},
		"file":               {Where{File: plain}, plain, nil},
		"file, checked":      {Where{File: plain, ID: ref["p256"].MD5()}, plain, nil},
		"file, another":      {Where{File: plain, ID: ref["rsa"].MD5()}, "", ErrMismatch},
		"path as id":         {Where{ID: plain}, plain, nil},
		"nowhere":            {Where{ID: ref["p384"].MD5(), AgentSocket: socket, Dir: dir}, "", ErrNotFound},
		"locked, not asked":  {Where{ID: ref["p521"].MD5(), Dir: dir}, "", ErrPassphrase},
		"nothing to look by": {Where{Dir: dir}, "", ErrNotFound},
	} {
		k, err := Find(t.Context(), tc.w)
		if !errors.Is(err, tc.is) || err == nil && k.Origin() != tc.origin {
			t.Errorf("%s: %v, %v", name, k, err)
		}
	}
}
