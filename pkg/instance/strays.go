package instance

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"github.com/tritonops/tritonops/pkg/durable"
)

// StrayClass says what a file is that belongs to no image.
type StrayClass string

// The classes of strays.
const (
	LeftoverUpload StrayClass = "leftover upload" // file0.<request id>: an upload in progress, or one that failed
	TempFile       StrayClass = "temporary file"  // of an editor, a sync or a crashed write
	WrongPlace     StrayClass = "wrong place"     // an image's file where the server does not look
	NotPlain       StrayClass = "not a plain file"
	Other          StrayClass = "other"
)

// Stray is a name below the data directory that is no data of an image.
type Stray struct {
	Rel   string     `json:"path"` // slash-separated, relative to the data directory
	UUID  string     `json:"uuid"` // of the image it lies with, or ""
	Class StrayClass `json:"class"`
	Why   string     `json:"why"`  // "is a symbolic link"
	Size  int64      `json:"size"` // bytes; 0 for what is not a plain file
}

// StraySum is how much there is of one class.
type StraySum struct {
	Class StrayClass `json:"class"`
	Count int        `json:"count"`
	Bytes int64      `json:"bytes"`
}

// SumStrays counts the strays by class, in the order in which the classes first
// appear, and returns the first keep of them.
func (i *Instance) SumStrays(ctx context.Context, keep int) ([]StraySum, []Stray, error) {
	sums, list := []StraySum{}, []Stray{}
	for s, err := range i.Strays(ctx) {
		if err != nil {
			return sums, list, err
		}
		n := slices.IndexFunc(sums, func(x StraySum) bool { return x.Class == s.Class })
		if n < 0 {
			n = len(sums)
			sums = append(sums, StraySum{Class: s.Class})
		}
		sums[n].Count++
		sums[n].Bytes += s.Size
		if len(list) < keep {
			list = append(list, s)
		}
	}
	return sums, list, nil
}

// EntryError is yielded in place of an entry whose name is that of data but which
// is not a plain file. The walk goes on. Nobody may take the data for deleted.
type EntryError struct {
	Rel  string // relative to the data directory
	Kind string // "a symbolic link"
}

// Error names the entry, quoted where it holds what a terminal should not get.
func (e *EntryError) Error() string {
	return fmt.Sprintf("%s: is %s: %v", printable(e.Rel), e.Kind, ErrNotRegular)
}

// Unwrap returns ErrNotRegular.
func (e *EntryError) Unwrap() error { return ErrNotRegular }

// printable quotes a name with control characters.
func printable(s string) string {
	if q := fmt.Sprintf("%q", s); q != `"`+s+`"` {
		return q
	}
	return s
}

// readdirChunk is how many names are read at a time.
const readdirChunk = 4096

// eachName calls f for every name in a directory, in no order.
func eachName(ctx context.Context, dir string, f func(name string)) error {
	if err := plainDir(dir); err != nil {
		return err
	}
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	for {
		if err := ctx.Err(); err != nil {
			return err
		}
		names, err := d.Readdirnames(readdirChunk)
		for _, n := range names {
			f(n)
		}
		if err != nil {
			if errors.Is(err, io.EOF) {
				return nil
			}
			return err
		}
	}
}

// sortedNames returns the names in a directory in byte order.
func sortedNames(ctx context.Context, dir string) ([]string, error) {
	var names []string
	err := eachName(ctx, dir, func(n string) { names = append(names, n) })
	slices.Sort(names)
	return names, err
}

// Strays yields what lies in manifests/ and images/ and is no data of an image, in
// byte order of the paths. An absent directory has none. It ends with the first
// error.
func (i *Instance) Strays(ctx context.Context) iter.Seq2[Stray, error] {
	return func(yield func(Stray, error) bool) {
		w := &strayWalk{i: i, ctx: ctx, yield: yield}
		w.images()
		w.manifests()
	}
}

// strayWalk stops silently once yield said no or an error was yielded.
type strayWalk struct {
	i     *Instance
	ctx   context.Context
	yield func(Stray, error) bool
	done  bool
}

func (w *strayWalk) fail(err error) {
	if err != nil && !w.done {
		w.done = true
		w.yield(Stray{}, err)
	}
}

func (w *strayWalk) names(rel string) []string {
	if w.done {
		return nil
	}
	names, err := sortedNames(w.ctx, w.path(rel))
	if os.IsNotExist(err) {
		return nil
	}
	w.fail(err)
	return names
}

func (w *strayWalk) path(rel string) string {
	return filepath.Join(w.i.DataDir(), filepath.FromSlash(rel))
}

// mode looks at an entry; one that vanished meanwhile has ok false.
func (w *strayWalk) mode(rel string) (fs.FileMode, bool) {
	if w.done {
		return 0, false
	}
	fi, err := os.Lstat(w.path(rel))
	if os.IsNotExist(err) {
		return 0, false
	}
	w.fail(err)
	return modeOf(fi), err == nil
}

func modeOf(fi os.FileInfo) fs.FileMode {
	if fi == nil {
		return 0
	}
	return fi.Mode()
}

func (w *strayWalk) report(s Stray) {
	if w.done {
		return
	}
	if fi, err := os.Lstat(w.path(s.Rel)); err == nil && fi.Mode().IsRegular() {
		s.Size = fi.Size()
	}
	w.done = !w.yield(s, nil)
}

func (w *strayWalk) manifests() {
	for _, name := range w.names("manifests") {
		rel := "manifests/" + name
		mode, ok := w.mode(rel)
		switch uuid, isManifest := manifestName(name); {
		case !ok:
		case !mode.IsRegular():
			w.report(Stray{Rel: rel, UUID: uuid, Class: NotPlain, Why: "is " + modeName(mode)})
		case !isManifest:
			class, why := classify(name)
			w.report(Stray{Rel: rel, Class: class, Why: why})
		}
	}
}

func (w *strayWalk) images() {
	for _, shard := range w.names("images") {
		rel := "images/" + shard
		mode, ok := w.mode(rel)
		switch {
		case !ok:
		case mode.IsDir() && shardName(shard):
			w.shard(shard)
		case mode.IsDir():
			w.report(Stray{Rel: rel, Class: WrongPlace, Why: "is a directory, not named by the first three digits of a UUID"})
		default:
			w.notDir(rel, shard, mode)
		}
	}
}

func (w *strayWalk) shard(shard string) {
	for _, uuid := range w.names("images/" + shard) {
		rel := path.Join("images", shard, uuid)
		mode, ok := w.mode(rel)
		switch {
		case !ok:
		case !mode.IsDir():
			w.notDir(rel, uuid, mode)
		case !ValidUUID(uuid):
			w.report(Stray{Rel: rel, Class: WrongPlace, Why: "is a directory, not named by a UUID"})
		case uuid[:3] != shard:
			w.report(Stray{Rel: rel, UUID: uuid, Class: WrongPlace, Why: "the server looks for it in images/" + uuid[:3]})
		default:
			w.image(rel, uuid)
		}
	}
}

func (w *strayWalk) image(dir, uuid string) {
	for _, name := range w.names(dir) {
		rel := dir + "/" + name
		mode, ok := w.mode(rel)
		switch {
		case !ok:
		case !mode.IsRegular():
			w.report(Stray{Rel: rel, UUID: uuid, Class: NotPlain, Why: "is " + modeName(mode)})
		case !fileName(name):
			class, why := classify(name)
			w.report(Stray{Rel: rel, UUID: uuid, Class: class, Why: why})
		}
	}
}

// notDir reports what lies where only directories belong.
func (w *strayWalk) notDir(rel, name string, mode fs.FileMode) {
	if !mode.IsRegular() {
		w.report(Stray{Rel: rel, Class: NotPlain, Why: "is " + modeName(mode)})
		return
	}
	class, why := classify(name)
	if class == Other {
		class, why = WrongPlace, "is a plain file, where only directories belong"
	}
	w.report(Stray{Rel: rel, Class: class, Why: why})
}

var (
	uploadName = regexp.MustCompile(`^(file[0-9]+|icon)\..`)
	tempName   = regexp.MustCompile(`(~|\.(tmp|swp|swo|swx|part|bak|orig|mwatchdirpart))$`)
)

// classify says what a plain file with a name that is not data's is.
func classify(name string) (StrayClass, string) {
	switch {
	case strings.HasPrefix(name, durable.TempPrefix):
		return TempFile, "left by an interrupted write of tritonops"
	case uploadName.MatchString(name):
		return LeftoverUpload, "an upload in progress, or one that failed"
	case tempName.MatchString(name):
		return TempFile, "named like a temporary or backup copy"
	}
	return Other, "belongs to no image"
}
