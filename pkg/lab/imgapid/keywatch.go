package imgapid

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"
	"time"

	"github.com/tritonops/tritonops/pkg/lab/mantastor"
)

// keyWatcher keeps etc/authkeys/manta like the key files in Manta, as well as
// upstream does: one poll that fails is the last one until somebody asks for
// another; the removal of a file in Manta removes nothing here, except at the
// first poll of a process; and that one fails when it would remove files while
// no name is on both sides.
type keyWatcher struct {
	p     *Process
	dir   string
	asked chan struct{}
	first chan struct{}              // closed after the first poll
	state map[string]mantastor.Entry // of the last good poll, nil before it
}

func newKeyWatcher(p *Process) *keyWatcher {
	return &keyWatcher{p: p, dir: p.at.keys("manta"), asked: make(chan struct{}, 1), first: make(chan struct{})}
}

// poke asks for a poll now.
func (k *keyWatcher) poke() {
	select {
	case k.asked <- struct{}{}:
	default: // one is asked for already
	}
}

// KeysPolled is closed once the keys in Manta were looked at, or could not be.
func (p *Process) KeysPolled() <-chan struct{} {
	if p.watcher != nil {
		return p.watcher.first
	}
	none := make(chan struct{})
	close(none)
	return none
}

func (k *keyWatcher) run(ctx context.Context) {
	for first := true; ; first = false {
		err := k.poll(ctx)
		if first {
			close(k.first)
		}
		var next <-chan time.Time
		if err == nil {
			next = time.After(k.p.cfg.KeysEvery)
		} else if ctx.Err() == nil {
			k.p.log.put(40, "error polling manta for auth keys: "+storageText(err), nil)
		}
		select {
		case <-ctx.Done():
			return
		case <-k.asked:
		case <-next:
		}
	}
}

// poll compares Manta with the last poll, or the first time with the directory,
// fetches what is new and has the keys read again if anything changed.
func (k *keyWatcher) poll(ctx context.Context) error {
	list, err := k.p.manta.client.List(ctx, k.p.manta.keys())
	if err != nil && !mantastor.NotFound(err) {
		return err
	}
	now := map[string]mantastor.Entry{}
	for _, e := range list {
		if e.Type == "object" && strings.HasSuffix(e.Name, ".keys") && !strings.ContainsAny(e.Name, "/\x00") {
			now[e.Name] = e
		}
	}
	var fetch []string
	gone := 0
	if k.state == nil {
		fetch, gone, err = k.begin(ctx, now)
	} else {
		for name, e := range now {
			if old, ok := k.state[name]; !ok || old.ETag != e.ETag {
				fetch = append(fetch, name)
			}
		}
		for name := range k.state {
			if _, ok := now[name]; !ok {
				gone++ // upstream removes another path than the file's: the key stays
			}
		}
	}
	if err != nil {
		return err
	}
	for _, name := range fetch {
		if err := k.fetch(ctx, name); err != nil {
			return err
		}
	}
	k.state = now
	if len(fetch)+gone > 0 {
		k.p.keys.reload()
	}
	return nil
}

// begin compares with what is in the directory.
func (k *keyWatcher) begin(ctx context.Context, now map[string]mantastor.Entry) (fetch []string, gone int, err error) {
	entries, err := os.ReadDir(k.dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, 0, err
	}
	here := map[string]int64{}
	var surplus []string
	for _, e := range entries {
		fi, err := e.Info()
		if err != nil || e.IsDir() || !strings.HasSuffix(e.Name(), ".keys") {
			continue
		}
		here[e.Name()] = fi.Size()
		if _, ok := now[e.Name()]; !ok {
			surplus = append(surplus, e.Name())
		}
	}
	if len(surplus) > 0 && len(surplus) == len(here) {
		return nil, 0, fmt.Errorf("sync-delete-guard failure: %d local files (%s) would be deleted and there are no filename matches",
			len(surplus), strings.Join(surplus, ", "))
	}
	for name := range now {
		size, ok := here[name]
		same := false
		if ok {
			if same, err = k.same(ctx, name, size); err != nil {
				return nil, 0, err
			}
		}
		if !same {
			fetch = append(fetch, name)
		}
	}
	for _, name := range surplus {
		if err := os.Remove(filepath.Join(k.dir, name)); err != nil {
			return nil, 0, err
		}
	}
	return fetch, len(surplus), nil
}

func (k *keyWatcher) same(ctx context.Context, name string, size int64) (bool, error) {
	info, err := k.p.manta.client.Head(ctx, path.Join(k.p.manta.keys(), name))
	if err != nil || info.Size != size {
		return false, err
	}
	b, err := os.ReadFile(filepath.Join(k.dir, name))
	return err == nil && md5Of(b) == info.MD5, err
}

func (k *keyWatcher) fetch(ctx context.Context, name string) error {
	body, err := k.p.manta.client.Get(ctx, path.Join(k.p.manta.keys(), name))
	if err != nil {
		return err
	}
	defer body.Close()
	part := filepath.Join(k.dir, "."+name+".mwatchdirpart")
	f, err := os.OpenFile(part, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o644)
	if err != nil {
		return err
	}
	_, err = io.Copy(f, body)
	if err = cmp.Or(err, f.Close()); err != nil {
		return err
	}
	if k.p.isDead() {
		return errDead
	}
	return os.Rename(part, filepath.Join(k.dir, name))
}
