package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/tritonops/tritonops/pkg/fail"
	"github.com/tritonops/tritonops/pkg/lab/fault"
	"github.com/tritonops/tritonops/pkg/lab/mantad"
)

// world is everything around the rig that no command may touch: the lab's whole
// directory but the store, logs, and where the command itself writes.
func (r *rig) world() map[string]string {
	r.t.Helper()
	dir := r.lab.State().Dir
	root := filepath.Dir(filepath.Dir(r.data)) // of the instance
	skip := []string{
		filepath.Join(dir, "manta"), filepath.Join(root, "var"), filepath.Join(filepath.Dir(r.data), "tritonops"),
		filepath.Join(r.data, "run"), filepath.Join(filepath.Dir(r.data), "into"), r.copyDir(),
	}
	out := map[string]string{}
	r.must(filepath.WalkDir(filepath.Dir(dir), func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if slices.Contains(skip, p) {
			return fs.SkipDir
		}
		rel, _ := filepath.Rel(dir, p)
		switch {
		case d.Type()&fs.ModeSymlink != 0:
			out[rel], err = os.Readlink(p)
		case d.Type().IsRegular() && d.Name() != "tritonops":
			var b []byte
			b, err = os.ReadFile(p)
			if out[rel] = string(b); len(b) > 1<<20 {
				out[rel] = fmt.Sprint(len(b))
			}
		default:
			out[rel] = d.Type().String()
		}
		return err
	}))
	return out
}

// ours holds that what a command wrote in its own places has no name of an
// attacker's choice.
func (r *rig) ours() {
	r.t.Helper()
	r.must(filepath.WalkDir(filepath.Dir(r.data), func(p string, _ fs.DirEntry, err error) error {
		if strings.Contains(p, "escape") {
			r.t.Errorf("%s was written", p)
		}
		return err
	}))
}

// odd is something in the instance's data directory that a stock server never
// puts there.
type odd struct {
	name string
	make func(r *rig, outside string)
	says string // by a backup run
	code fail.Code
}

func oddities() []odd {
	manifest := func(r *rig) string {
		names, err := filepath.Glob(filepath.Join(r.data, "manifests", "*.raw"))
		r.must(err)
		return names[0]
	}
	image := func(r *rig) string {
		names, err := filepath.Glob(filepath.Join(r.data, "images", "*", "*", "file0"))
		r.must(err)
		return names[0]
	}
	// link replaces p by a symbolic link to a copy of it outside.
	link := func(r *rig, p, outside string) {
		r.must(os.Rename(p, filepath.Join(outside, filepath.Base(p))))
		r.must(os.Symlink(filepath.Join(outside, filepath.Base(p)), p))
	}
	instead := func(r *rig, p string, make func(string) error) {
		r.must(os.Remove(p))
		r.must(make(p))
	}
	fifo := func(p string) error { return unix.Mkfifo(p, 0o644) }
	dir := func(p string) error { return os.Mkdir(p, 0o755) }
	keys := func(r *rig) string { return filepath.Join(r.data, "etc", "authkeys", "local", "escapee.keys") }
	return []odd{
		{"a symlink for a manifest", func(r *rig, out string) { link(r, manifest(r), out) }, "symbolic link", fail.Faults},
		{"a symlink for the manifests", func(r *rig, out string) { link(r, filepath.Join(r.data, "manifests"), out) }, "symbolic link", fail.Failed},
		{"a symlink for the images", func(r *rig, out string) { link(r, filepath.Join(r.data, "images"), out) }, "symbolic link", fail.Failed},
		{"a symlink for a shard", func(r *rig, out string) { link(r, filepath.Dir(filepath.Dir(image(r))), out) }, "symbolic link", fail.Failed},
		{"a symlink for an image", func(r *rig, out string) { link(r, filepath.Dir(image(r)), out) }, "symbolic link", fail.Faults},
		{"a symlink for a file", func(r *rig, out string) { link(r, image(r), out) }, "symbolic link", fail.Faults},
		{"a pipe for a manifest", func(r *rig, _ string) { instead(r, manifest(r), fifo) }, "pipe", fail.Faults},
		{"a pipe for a file", func(r *rig, _ string) { instead(r, image(r), fifo) }, "pipe", fail.Faults},
		{"a directory for a manifest", func(r *rig, _ string) { instead(r, manifest(r), dir) }, "directory", fail.Faults},
		{"a directory for a file", func(r *rig, _ string) { instead(r, image(r), dir) }, "directory", fail.Faults},
		{"a manifest of 100 MB", func(r *rig, _ string) { r.must(os.Truncate(manifest(r), 100<<20)) }, "104857600 bytes, more than the 4194304", fail.Faults},
		{"a manifest of another image", func(r *rig, _ string) {
			r.must(os.WriteFile(manifest(r), []byte(`{"v": 2, "uuid": "01b2c898-945f-11e1-a523-af1afbe22822"}`), 0o644))
		}, manifestName, fail.Faults},
		{"an empty manifest", func(r *rig, _ string) { r.must(os.Truncate(manifest(r), 0)) }, manifestName, fail.Faults},
		{"a directory for auth keys", func(r *rig, _ string) { r.must(os.MkdirAll(keys(r), 0o755)) }, "escapee.keys", fail.Faults},
		{"a pipe for auth keys", func(r *rig, _ string) { r.must(os.MkdirAll(filepath.Dir(keys(r)), 0o755)); r.must(fifo(keys(r))) }, "escapee.keys", fail.Faults},
		{"auth keys with an odd name", func(r *rig, _ string) {
			r.must(os.WriteFile(filepath.Join(filepath.Dir(keys(r)), "a\x1b[2Jb.keys"), []byte("x"), 0o644))
		}, "odd_name", fail.Faults},
	}
}

const manifestName = "manifests/"

// What no stock server leaves in its data directory is named, kept out of the
// backup, never followed, and never taken for a deletion; a restore puts it aside.
func TestOddThingsInTheDataDirectory(t *testing.T) {
	t.Parallel()
	r := newRig(t, 5).begin()
	good := filepath.Join(filepath.Dir(r.data), "good")
	r.shell("cp -a " + r.data + " " + good)
	want := r.tree(r.data)
	for _, o := range oddities() {
		t.Run(o.name, func(t *testing.T) {
			r := r.in(t)
			defer r.shell("rm -rf " + r.data + " && cp -a " + good + " " + r.data)
			outside := filepath.Join(filepath.Dir(r.lab.State().Dir), "outside")
			r.must(os.Mkdir(outside, 0o755))
			defer os.RemoveAll(outside)
			o.make(r, outside)
			world := r.world()
			code, out := r.try("imgapi", "backup", "run")
			t.Logf("exit %d\n%s", code, out)
			if code != int(o.code) || !strings.Contains(out, o.says) || !strings.Contains(out, "manifests") && !strings.Contains(out, "images") && !strings.Contains(out, "authkeys") {
				t.Errorf("exit %d, want %d and %q", code, o.code, o.says)
			}
			r.same("around", r.world(), world)
			into := filepath.Join(filepath.Dir(r.data), "into")
			r.run([]int{0}, "imgapi", "restore", "--yes", "--into", into)
			r.same("the backup still has everything", r.tree(into), want)
			r.must(os.RemoveAll(into))
			r.run([]int{0}, "imgapi", "backup", "verify", "--deep")

			// The server is left alone: one that opens a pipe of keys waits for ever.
			code, out = r.try("imgapi", "restore", "--yes", "--no-restart")
			t.Logf("exit %d\n%s", code, out)
			switch fail.Code(code) {
			case fail.OK:
				r.same("restored", r.tree(r.data), want)
				r.apart(outside)
			case fail.Refused, fail.Failed:
				r.same("around", r.world(), world)
			default:
				t.Errorf("restore: exit %d", code)
			}
		})
	}
	r.run([]int{0}, "imgapi", "restore", "--yes")
	r.run([]int{0}, "imgapi", "backup", "run")
	r.deep()
}

// apart holds that no file of the instance is one outside by another name: what
// is done to it later would be done there.
func (r *rig) apart(outside string) {
	r.t.Helper()
	seen := map[uint64]string{}
	for _, dir := range []string{outside, r.data} {
		r.must(filepath.WalkDir(dir, func(p string, d fs.DirEntry, err error) error {
			if err != nil || !d.Type().IsRegular() {
				return err
			}
			fi, err := d.Info()
			if err != nil {
				return err
			}
			ino := fi.Sys().(*syscall.Stat_t).Ino
			if dir == outside {
				seen[ino] = p
			} else if seen[ino] != "" {
				r.t.Errorf("%s is %s", p, seen[ino])
			}
			return nil
		}))
	}
}

func (r *rig) shell(script string) {
	r.t.Helper()
	if out, err := exec.Command("sh", "-c", script).CombinedOutput(); err != nil {
		r.t.Fatalf("%s: %v: %s", script, err, out)
	}
}

func TestAHostileConfigurationIsRefused(t *testing.T) {
	r := newRig(t, 2).begin()
	file := filepath.Join(r.data, "etc", "imgapi.config.json")
	good, err := os.ReadFile(file)
	r.must(err)
	set := func(old, new string) string {
		if !strings.Contains(string(good), old) {
			t.Fatalf("no %s in %s", old, good)
		}
		return strings.Replace(string(good), old, new, 1)
	}
	user := `"user": "` + r.lab.State().Account + `"`
	for name, tc := range map[string]struct{ text, says string }{
		"empty":              {"", "imgapi.config.json"},
		"garbage":            {"\x00\xff{{{", "imgapi.config.json"},
		"cut":                {string(good[:len(good)/2]), "imgapi.config.json"},
		"two values":         {string(good) + "{}", "imgapi.config.json"},
		"a list":             {"[]", "imgapi.config.json"},
		"deep":               {strings.Repeat(`{"a":`, 200_000), "imgapi.config.json"},
		"2 MB":               {`{"a":"` + strings.Repeat("x", 2<<20) + `"}`, "imgapi.config.json"},
		"manta is a string":  {`{"mode":"public","manta":"https://x"}`, "manta"},
		"a data center's":    {set(`"mode": "public"`, `"mode": "dc", "datacenterName": "east-1"`), "dc"},
		"user with a path":   {set(user, `"user": "bob/../../etc"`), "user"},
		"user with a line":   {set(user, `"user": "bob\nHost: evil"`), "account"},
		"base dir escapes":   {set(`"baseDir": "`, `"baseDir": "../../`), "baseDir"},
		"base dir with NUL":  {set(`"baseDir": "`, `"baseDir": "\u0000`), "baseDir"},
		"password in url":    {set(`"url": "https://`, `"url": "https://bob:hunter2@`), "URL"},
		"url of a file":      {set(`"url": "https://`, `"url": "file:///`), "URL"},
		"key is a directory": {set(`"key": "`, `"key": "/tmp/..", "x": "`), "key"},
	} {
		t.Run(name, func(t *testing.T) {
			r := r.in(t)
			r.secrets = append(slices.Clone(r.secrets), "hunter2")
			r.must(os.WriteFile(file, []byte(tc.text), 0o644))
			defer func() { r.must(os.WriteFile(file, good, 0o644)) }()
			world := r.world()
			for _, v := range verbs() {
				code, out := r.try(v.command(r)...)
				t.Logf("%s: exit %d\n%s", v.name, code, out)
				if code == 0 || code == int(fail.Faults) || !strings.Contains(out, tc.says) {
					t.Errorf("%s: exit %d, want an error about %s\n%s", v.name, code, tc.says, out)
				}
			}
			r.same("around", r.world(), world)
		})
	}
	for name, make := range map[string]func() error{
		"a pipe":      func() error { return unix.Mkfifo(file, 0o644) },
		"a directory": func() error { return os.Mkdir(file, 0o755) },
		"absent":      func() error { return nil },
	} {
		t.Run(name, func(t *testing.T) {
			r := r.in(t)
			r.must(os.Remove(file))
			r.must(make())
			for _, v := range verbs() {
				if code, out := r.try(v.command(r)...); code == 0 || !strings.Contains(out, "imgapi.config.json") {
					t.Errorf("%s: exit %d\n%s", v.name, code, out)
				}
			}
			if err := os.Remove(file); err != nil && !errors.Is(err, fs.ErrNotExist) {
				t.Fatal(err)
			}
			r.must(os.WriteFile(file, good, 0o644))
		})
	}
	r.run([]int{0}, "imgapi", "backup", "run")
	r.deep()
}

func TestOfTwoBackupsAtOnceOneStandsBack(t *testing.T) {
	r := newRig(t, 4).begin()
	r.change()
	f, err := r.lab.Faults().Add(fault.Fault{Service: mantad.Service, Kind: fault.Latency, Delay: ms(1000), Count: 1})
	r.must(err)
	first := r.start("imgapi", "backup", "run", "--max-delete", "100%")
	r.until("the first is at work", func() bool { return r.hits(f.ID) > 0 })
	status := filepath.Join(r.data, "run", "backup.status")
	before, err := os.Stat(status)
	r.must(err)
	for _, args := range [][]string{{"backup", "run"}, {"backup", "prune", "--keep-last", "1", "--yes"}, {"restore", "--yes"}} {
		start := time.Now()
		code, out := r.try(append([]string{"imgapi"}, args...)...)
		if code != int(fail.Held) || !strings.Contains(out, "backup run") || !strings.Contains(out, "pid") {
			t.Errorf("%s: exit %d after %v\n%s", args, code, time.Since(start), out)
		}
	}
	if after, err := os.Stat(status); err != nil || !after.ModTime().Equal(before.ModTime()) {
		t.Errorf("the one that stood back spoke over the one at work: %v", err)
	}
	if code, out := r.end(first); code != 0 {
		t.Errorf("the first: exit %d\n%s", code, out)
	}
	r.run([]int{0}, "imgapi", "backup", "run")
	r.deep()
}
