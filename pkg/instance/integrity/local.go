package integrity

import (
	"context"
	"errors"
	"io"
	"io/fs"

	"github.com/tritonops/tritonops/pkg/instance"
)

// LocalFiles are the image files on the instance's disk.
type LocalFiles struct{ Instance *instance.Instance }

// Stat implements Files. A symbolic link anywhere below the data directory is an
// error.
func (l LocalFiles) Stat(ctx context.Context, uuid, name string) (Stat, error) {
	if err := ctx.Err(); err != nil {
		return Stat{}, err
	}
	fi, err := l.Instance.StatImageFile(uuid, name)
	if err != nil {
		return Stat{}, err
	}
	return Stat{Size: fi.Size(), ID: instance.VersionID(fi)}, nil
}

// Open implements Files.
func (l LocalFiles) Open(ctx context.Context, uuid, name string) (io.ReadCloser, Stat, error) {
	if err := ctx.Err(); err != nil {
		return nil, Stat{}, err
	}
	f, fi, err := l.Instance.OpenImageFile(uuid, name)
	if err != nil {
		return nil, Stat{}, err
	}
	return f, Stat{Size: fi.Size(), ID: instance.VersionID(fi)}, nil
}

// Leftover looks for the missing file of an image among the leftover uploads
// beside it: moving an image from Manta to local storage leaves it under the
// upload's name (observed with sdc-imgapi 4.13.1). It returns the name of one whose
// size and hash are right, or "".
func Leftover(ctx context.Context, i *instance.Instance, uuid string, want instance.File) (string, error) {
	names, err := i.Leftovers(ctx, uuid)
	if err != nil {
		return "", err
	}
	dir := i.FilePath(uuid, "")
	for _, n := range names {
		f, fi, err := instance.OpenPlain(dir + "/" + n)
		if errors.Is(err, fs.ErrNotExist) || errors.Is(err, instance.ErrNotRegular) {
			continue
		}
		if err != nil {
			return "", err
		}
		var v Verdict
		if fi.Size() == want.Size && want.SHA1 != "" {
			v, err = Verify(ctx, f, want, nil)
		} else {
			v.Problems = []string{"another size"}
		}
		f.Close()
		if err != nil {
			return "", err
		}
		if len(v.Problems) == 0 {
			return n, nil
		}
	}
	return "", nil
}
