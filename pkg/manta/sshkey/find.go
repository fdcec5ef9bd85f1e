package sshkey

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/crypto/ssh"
)

// Where tells Find where to look. Fields left empty are not looked at.
type Where struct {
	ID          string // fingerprint in any usual form, or the path of a key file
	File        string // this private key file and nothing else; ID is then checked if given
	AgentSocket string // unix socket of an ssh-agent
	Dir         string // directory with key files, usually ~/.ssh
	Ask         Passphrase
}

// Find returns the key with the given fingerprint: from the file if one is
// named, else from the agent, else from the directory, as the services' own
// tools do. The error wraps ErrNotFound and says where it looked.
func Find(ctx context.Context, w Where) (*Key, error) {
	if w.File != "" {
		return loadChecked(w.File, w.ID, w.Ask)
	}
	if w.ID == "" {
		return nil, fmt.Errorf("key: neither a fingerprint nor a file is given: %w", ErrNotFound)
	}
	var looked []string
	var trouble error
	if w.AgentSocket != "" {
		k, err := FromAgent(ctx, w.AgentSocket, w.ID)
		if err == nil {
			return k, nil
		}
		looked = append(looked, "ssh-agent")
		if !errors.Is(err, ErrNotFound) {
			trouble = err // a dead agent must not hide a key file
		}
	}
	fp, err := ParseFingerprint(w.ID)
	if err != nil {
		if _, serr := os.Stat(w.ID); serr == nil {
			return Load(strings.TrimSuffix(w.ID, ".pub"), w.Ask)
		}
		return nil, err
	}
	if w.Dir != "" {
		if path := inDir(w.Dir, fp); path != "" {
			return loadChecked(path, w.ID, w.Ask)
		}
		looked = append(looked, w.Dir)
	}
	err = fmt.Errorf("key %s: looked in %s: %w", w.ID, strings.Join(looked, ", "), ErrNotFound)
	if trouble != nil {
		err = fmt.Errorf("%w (%w)", err, trouble)
	}
	return nil, err
}

// loadChecked loads a file and compares its fingerprint with id, unless empty.
func loadChecked(path, id string, ask Passphrase) (*Key, error) {
	k, err := Load(path, ask)
	if err != nil {
		return nil, err
	}
	if id != "" {
		if err := k.Check(id); err != nil {
			return nil, err
		}
	}
	return k, nil
}

// inDir returns the path of the private key with this fingerprint, or "". The
// .pub files are read first: an encrypted key tells nothing else.
func inDir(dir string, fp Fingerprint) string {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return ""
	}
	for _, e := range entries {
		name, isPub := strings.CutSuffix(e.Name(), ".pub")
		if !isPub {
			continue
		}
		pub, _, err := readPublic(filepath.Join(dir, e.Name()))
		if err != nil || !fp.Matches(pub) {
			continue
		}
		if st, err := os.Stat(filepath.Join(dir, name)); err == nil && st.Mode().IsRegular() {
			return filepath.Join(dir, name)
		}
	}
	for _, e := range entries {
		path := filepath.Join(dir, e.Name())
		if pub := publicOf(path); pub != nil && fp.Matches(pub) {
			return path
		}
	}
	return ""
}

// publicOf returns the public half of a private key file, or nil if it cannot be
// known without a passphrase or is no key.
func publicOf(path string) ssh.PublicKey {
	st, err := os.Stat(path)
	if err != nil || !st.Mode().IsRegular() || st.Size() > maxKeyFile {
		return nil
	}
	data, err := os.ReadFile(path)
	if err != nil {
		return nil
	}
	defer clear(data)
	raw, err := parseRaw(data, nil)
	var missing *ssh.PassphraseMissingError
	if errors.As(err, &missing) {
		return missing.PublicKey
	}
	if err != nil {
		return nil
	}
	k, err := New(raw, path)
	if err != nil {
		return nil
	}
	return k.pub
}
