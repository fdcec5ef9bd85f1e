package procedure

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/tritonops/tritonops/pkg/durable"
)

// ErrNoArtifact is returned for a name under which nothing was kept.
var ErrNoArtifact = errors.New("no such artifact")

// maxArtifact bounds one artifact in bytes.
const maxArtifact = 1 << 30

func checkArtifactName(name string) error {
	if name == "" || len(name) > 255 {
		return fmt.Errorf("artifact name of %d bytes", len(name))
	}
	return checkText("artifact name", name)
}

// Artifact keeps data in the run's directory, in a file of mode 0600 that is
// named by its SHA-256: old values that an undo needs, snapshots. It may hold
// secrets, is shown by no command, and is removed with the run. Only Apply may
// keep artifacts. A name is kept once: keeping the same bytes again does nothing,
// other bytes are refused, so that an Apply that is repeated cannot overwrite the
// state from before its first attempt; see [Run.HasArtifact].
func (r *Run) Artifact(name string, data []byte) error {
	if err := checkArtifactName(name); err != nil {
		return err
	}
	if len(data) > maxArtifact {
		return fmt.Errorf("artifact %q: %d bytes, more than %d", name, len(data), maxArtifact)
	}
	sum := sha256.Sum256(data)
	info := ArtifactInfo{Name: name, SHA256: hex.EncodeToString(sum[:]), Size: int64(len(data))}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.j == nil || r.step < 0 {
		return fmt.Errorf("artifact %q: no step is being applied", name)
	}
	if k := r.j.kept(name); k != nil {
		if k.ArtifactInfo == info {
			return nil
		}
		return fmt.Errorf("artifact %q: kept already with other content", name)
	}
	dir := filepath.Join(r.dir, artifactsDir)
	if err := durable.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	if err := durable.WriteFile(filepath.Join(dir, info.SHA256), data, 0o600); err != nil {
		return fmt.Errorf("artifact %q: %w", name, err)
	}
	return r.j.write(Record{Event: EventArtifact, Step: r.doc.Steps[r.step].Name, Artifact: &info})
}

// HasArtifact says whether something was kept under the name.
func (r *Run) HasArtifact(name string) bool {
	_, err := r.lookup(name)
	return err == nil
}

// ReadArtifact returns what was kept under the name, after checking that it is
// still what was kept: ErrDamaged if not, ErrNoArtifact if nothing was.
func (r *Run) ReadArtifact(name string) ([]byte, error) {
	info, err := r.lookup(name)
	if err != nil {
		return nil, err
	}
	f, err := os.Open(filepath.Join(r.dir, artifactsDir, info.SHA256))
	if errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("artifact %q: %w: its file is missing", name, ErrDamaged)
	}
	if err != nil {
		return nil, err
	}
	defer f.Close()
	var buf bytes.Buffer
	h := sha256.New()
	if _, err := io.Copy(io.MultiWriter(&buf, h), io.LimitReader(f, info.Size+1)); err != nil {
		return nil, fmt.Errorf("artifact %q: %w", name, err)
	}
	if got := hex.EncodeToString(h.Sum(nil)); got != info.SHA256 {
		return nil, fmt.Errorf("artifact %q: %w: sha256 is %s, recorded as %s", name, ErrDamaged, got, info.SHA256)
	}
	return buf.Bytes(), nil
}

func (r *Run) lookup(name string) (ArtifactInfo, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.j != nil {
		if k := r.j.kept(name); k != nil {
			return k.ArtifactInfo, nil
		}
	}
	return ArtifactInfo{}, fmt.Errorf("artifact %q: %w", name, ErrNoArtifact)
}
