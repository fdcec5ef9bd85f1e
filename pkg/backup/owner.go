package backup

import (
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"syscall"

	"github.com/tritonops/tritonops/pkg/durable"
)

// stockUser is who the stock server runs as.
const stockUser = "nobody"

// owner returns whose the restored files are to be. ok is false where nothing has
// to be done or this process may not.
func (r *Restorer) owner() (uid, gid int, ok bool, err error) {
	if os.Geteuid() != 0 || !r.inPlace() {
		return 0, 0, false, nil
	}
	if uid, gid, err = r.Instance.Owner(); err != nil {
		return 0, 0, false, err
	}
	// On a lost disk nothing tells any more who wrote there.
	if uid == 0 && !exists(r.Instance.ManifestsDir()) && !exists(r.aside()) {
		if u, err := user.Lookup(stockUser); err == nil {
			uid, _ = strconv.Atoi(u.Uid)
			gid, _ = strconv.Atoi(u.Gid)
		}
	}
	return uid, gid, uid != 0 || gid != 0, nil
}

// own gives the staged tree to the stock server's user, but for links to files
// the disk still has: they are as they are.
func (r *Restorer) own() error {
	uid, gid, ok, err := r.owner()
	if err != nil || !ok {
		return err
	}
	return filepath.WalkDir(r.stage(), func(p string, d os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		fi, err := d.Info()
		if err != nil {
			return err
		}
		if st, ok := fi.Sys().(*syscall.Stat_t); ok && fi.Mode().IsRegular() && st.Nlink > 1 {
			return nil
		}
		return os.Lchown(p, uid, gid)
	})
}

// mkdirOwned makes a directory of the live tree and those above it.
func (r *Restorer) mkdirOwned(dir string) error {
	if exists(dir) {
		return nil
	}
	if err := r.mkdirOwned(filepath.Dir(dir)); err != nil {
		return err
	}
	if err := os.Mkdir(dir, 0o755); err != nil && !os.IsExist(err) {
		return err
	}
	if uid, gid, ok, err := r.owner(); err != nil {
		return err
	} else if ok {
		if err := os.Lchown(dir, uid, gid); err != nil {
			return err
		}
	}
	return durable.SyncDir(filepath.Dir(dir))
}
