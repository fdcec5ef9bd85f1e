package mantastor

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/tritonops/tritonops/pkg/lab/mantad"
	"golang.org/x/crypto/ssh"
)

func server(t *testing.T) *Client {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	srv, err := mantad.New(mantad.Config{Dir: t.TempDir(), Accounts: []mantad.Account{{Login: "bob"}}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { srv.Close() })
	pub, err := ssh.NewPublicKey(key.Public())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := srv.AddKey("bob", "", string(ssh.MarshalAuthorizedKey(pub))); err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	go srv.Serve(l, nil)
	c, err := New(Config{URL: "http://" + l.Addr().String(), Account: "bob", Key: key})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

func TestObjectsAndListingsOfMoreThanOnePage(t *testing.T) {
	c := server(t)
	const dir = "/bob/stor/a b/ü"
	ctx := t.Context()
	if err := c.Put(ctx, dir+"/x", strings.NewReader("x"), Object{Size: 1}); !NotFound(err) {
		t.Errorf("without its directory: %v", err)
	}
	if err := c.MkdirAll(ctx, dir); err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	for w := range 4 {
		wg.Go(func() {
			for i := w; i < page+50; i += 4 {
				if err := c.Put(ctx, fmt.Sprintf("%s/o%04d", dir, i), strings.NewReader("x"), Object{Size: -1}); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	list, err := c.List(ctx, dir)
	if err != nil || len(list) != page+50 || list[0].Name != "o0000" || list[page+49].Name != "o1049" || list[7].Type != "object" || list[7].ETag == "" {
		t.Errorf("%d entries, %v", len(list), err)
	}
	if err := c.Put(ctx, dir+"/sum", strings.NewReader("y"), Object{Size: 1, MD5: "XrY7u+Ae7tCTyyK7j1rNww=="}); err == nil {
		t.Error("a wrong MD5 was taken")
	}
	if err := c.Put(ctx, dir+"/empty", strings.NewReader(""), Object{}); err != nil {
		t.Error(err)
	}
	if info, err := c.Head(ctx, dir+"/o0001"); err != nil || info.Size != 1 || info.MD5 == "" {
		t.Errorf("%+v %v", info, err)
	}
	body, err := c.Get(ctx, dir+"/o0001")
	if err != nil {
		t.Fatal(err)
	}
	if b, err := io.ReadAll(body); err != nil || string(b) != "x" || body.Close() != nil {
		t.Errorf("%q %v", b, err)
	}
	if err := c.Delete(ctx, dir+"/o0001"); err != nil {
		t.Error(err)
	}
	if _, err := c.Head(ctx, dir+"/o0001"); !NotFound(err) {
		t.Errorf("deleted: %v", err)
	}
	if err := c.Delete(ctx, dir); err == nil {
		t.Error("a directory that is not empty was deleted")
	}
}

func TestARefusedConnectionIsTriedAgainForAsLongAsThePatienceLasts(t *testing.T) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	c, err := New(Config{URL: "http://127.0.0.1:1", Account: "bob", Key: key, Patience: 200 * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	start := time.Now()
	if _, err := c.Get(t.Context(), "/bob/stor/x"); err == nil || time.Since(start) < 200*time.Millisecond || time.Since(start) > 2*time.Second {
		t.Errorf("%v after %v", err, time.Since(start))
	}
}
