package backup

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"

	"github.com/tritonops/tritonops/pkg/backup/store"
	"github.com/tritonops/tritonops/pkg/instance"
)

// Survey is what a restore of a generation would mean for the disk as it is.
type Survey struct {
	OnlyHere int      // local manifests that the generation does not have
	Keys     []string // what happens to each local auth key file that changes
}

// SurveyRestore compares the disk with a generation, by names and auth keys. An
// image, unless "", must be part of it.
func SurveyRestore(ctx context.Context, st store.Store, inst *instance.Instance, seq uint64, image string) (s Survey, err error) {
	log, err := OpenLog(ctx, st, nil)
	if err != nil {
		return s, err
	}
	keys := newPick(func(p string) bool { return path.Dir(p) == "etc/authkeys/local" })
	pos, err := log.StateAt(ctx, seq, keys)
	if err != nil {
		return s, err
	}
	if _, ok := pos.State.Get("manifests/" + image + ".raw"); image != "" && !ok {
		return s, noImage(st, seq, image)
	}
	uuids, err := inst.UUIDs(ctx)
	if err != nil && !errors.Is(err, fs.ErrNotExist) { // a lost disk has none
		return s, err
	}
	for _, u := range uuids {
		if _, ok := pos.State.Get("manifests/" + u + ".raw"); !ok {
			s.OnlyHere++
		}
	}
	s.Keys, err = keyChanges(keys.got, filepath.Join(inst.EtcDir(), "authkeys", "local"))
	return s, err
}

// keyChanges says for each key file of a generation, and each one in dir, what
// restoring would do.
func keyChanges(k map[string][]byte, dir string) ([]string, error) {
	var out []string
	for p, b := range k {
		have, err := os.ReadFile(filepath.Join(dir, path.Base(p)))
		switch {
		case os.IsNotExist(err):
			out = append(out, fmt.Sprintf("auth keys: %s comes back (lines: %d); was it revoked?", path.Base(p), bytes.Count(b, []byte("\n"))))
		case err != nil:
			return nil, err
		case !bytes.Equal(have, b):
			out = append(out, fmt.Sprintf("auth keys: %s is set back to its former keys", path.Base(p)))
		}
	}
	entries, err := os.ReadDir(dir)
	if err != nil && !os.IsNotExist(err) {
		return nil, err
	}
	for _, d := range entries {
		if _, ok := k["etc/authkeys/local/"+d.Name()]; !ok {
			out = append(out, fmt.Sprintf("auth keys: %s goes aside, the generation does not have it", d.Name()))
		}
	}
	slices.Sort(out)
	return out, nil
}
