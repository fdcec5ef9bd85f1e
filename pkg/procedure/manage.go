package procedure

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/tritonops/tritonops/pkg/durable"
	"github.com/tritonops/tritonops/pkg/fail"
)

// Names of directories that are no runs yet or no longer.
const (
	newPrefix  = ".new-"  // with the target's hash: being created under its lock
	gonePrefix = ".gone-" // being removed
)

// Abandon gives a run up without touching anything but its journal, and says in
// what state it leaves the steps. id may be a prefix.
func (e *Engine) Abandon(ctx context.Context, id string, a Asker) (*Report, error) {
	f, lock, err := e.take(ctx, id)
	if err != nil {
		return nil, err
	}
	defer lock.Release()
	j, err := e.openJournal(f)
	if err != nil {
		return nil, fmt.Errorf("run %s: %w", f.ID, err)
	}
	defer j.f.Close()
	if !j.blocks() {
		return nil, refused("run %s: is %s: nothing to abandon", f.ID, j.end)
	}
	q := Question{Title: fmt.Sprintf("abandon run %s, which is %s: %s", f.ID, j.state.state(), f.Plan.Title)}
	for _, s := range report(j.state).Steps {
		q.Lines = append(q.Lines, fmt.Sprintf("%s: %s", s.Line, s.State.sentence()))
	}
	if err := ask(ctx, a, q, "declined, nothing changed"); err != nil {
		return nil, err
	}
	by := e.by()
	if err := j.write(Record{Event: EventEnded, End: Abandoned, By: &by}); err != nil {
		return nil, fmt.Errorf("run %s: %w", f.ID, err)
	}
	return report(j.state), nil
}

// Forgotten is what Forget removed.
type Forgotten struct {
	ID        string         `json:"id"`
	Artifacts []ArtifactInfo `json:"artifacts"`        // removed with it
	Damage    string         `json:"damage,omitempty"` // the run could not be read; its artifacts are those found
}

// Forget removes a run that has ended, with its artifacts. A damaged run is
// forgotten only if its id is typed: nobody knows what it left behind.
func (e *Engine) Forget(ctx context.Context, id string, a Asker) (*Forgotten, error) {
	full, err := e.Match(id)
	if err != nil {
		return nil, err
	}
	f, err := loadPlan(e.path(full))
	if errors.Is(err, ErrDamaged) {
		return e.forgetDamaged(ctx, full, err, a)
	}
	if err != nil {
		return nil, fmt.Errorf("run %s: %w", full, err)
	}
	_, lock, err := e.take(ctx, full)
	if err != nil {
		return nil, err
	}
	defer lock.Release()
	s, _, err := loadJournal(e.path(full), f)
	if errors.Is(err, ErrDamaged) {
		return e.forgetDamaged(ctx, full, err, a)
	}
	if err != nil {
		return nil, fmt.Errorf("run %s: %w", full, err)
	}
	if s.blocks() {
		err := refused("run %s: is %s: it can be forgotten when it has ended", full, s.state())
		return nil, fail.Hint(err, "tritonops runs abandon %s", full)
	}
	q := Question{Title: fmt.Sprintf("forget run %s, which is %s: %s", full, s.end, f.Plan.Title)}
	if s.end == Done && s.noReturn() < 0 {
		q.Lines = append(q.Lines, "it can no longer be undone")
	}
	got := &Forgotten{ID: full, Artifacts: []ArtifactInfo{}}
	for _, k := range s.artifacts {
		got.Artifacts = append(got.Artifacts, k.ArtifactInfo)
		q.Lines = append(q.Lines, fmt.Sprintf("remove artifact %q of step %q (%d bytes)", k.Name, k.step, k.Size))
	}
	if err := ask(ctx, a, q, "declined, nothing changed"); err != nil {
		return nil, err
	}
	return got, e.remove(full)
}

func (e *Engine) forgetDamaged(ctx context.Context, id string, damage error, a Asker) (*Forgotten, error) {
	got := &Forgotten{ID: id, Artifacts: []ArtifactInfo{}, Damage: damage.Error()}
	q := Question{Title: fmt.Sprintf("forget the damaged run %s", id), TypeName: id, Lines: []string{
		damage.Error(), "nobody will know what it has done and left behind",
	}}
	files, err := os.ReadDir(filepath.Join(e.path(id), artifactsDir))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	for _, d := range files {
		info, err := d.Info()
		if err != nil {
			return nil, err
		}
		got.Artifacts = append(got.Artifacts, ArtifactInfo{SHA256: d.Name(), Size: info.Size()})
		q.Lines = append(q.Lines, fmt.Sprintf("remove artifact %s (%d bytes)", d.Name(), info.Size()))
	}
	if err := ask(ctx, a, q, "declined, nothing changed"); err != nil {
		return nil, err
	}
	return got, e.remove(id)
}

// remove takes a run away: at once for everybody, then file by file.
func (e *Engine) remove(id string) error {
	gone := filepath.Join(e.Dir, gonePrefix+id)
	if err := durable.Rename(e.path(id), gone); err != nil {
		return err
	}
	if err := os.RemoveAll(gone); err != nil {
		return err
	}
	return durable.SyncDir(e.Dir)
}

// clean removes what a crash left of runs being created or removed. The caller
// holds the target's lock, so nobody is creating one for it.
func (e *Engine) clean(target string) error {
	entries, err := os.ReadDir(e.Dir)
	if err != nil {
		return err
	}
	for _, d := range entries {
		n := d.Name()
		if strings.HasPrefix(n, gonePrefix) || strings.HasPrefix(n, newPrefix+targetHash(target)+"-") {
			if err := os.RemoveAll(filepath.Join(e.Dir, n)); err != nil {
				return err
			}
		}
	}
	return nil
}

// ids lists the runs in the order of their names.
func (e *Engine) ids() ([]string, error) {
	entries, err := os.ReadDir(e.Dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var ids []string
	for _, d := range entries {
		if d.IsDir() && idPattern.MatchString(d.Name()) {
			ids = append(ids, d.Name())
		}
	}
	return ids, nil
}

// Match returns the id that the prefix stands for.
func (e *Engine) Match(prefix string) (string, error) {
	all, err := e.ids()
	if err != nil {
		return "", err
	}
	if slices.Contains(all, prefix) {
		return prefix, nil
	}
	var found []string
	for _, id := range all {
		if prefix != "" && strings.HasPrefix(id, prefix) {
			found = append(found, id)
		}
	}
	switch len(found) {
	case 1:
		return found[0], nil
	case 0:
		return "", fail.Hint(refused("run %q: not found in %s", prefix, e.Dir), "tritonops runs list")
	}
	return "", refused("run %q: could be %s", prefix, strings.Join(found, " or "))
}
