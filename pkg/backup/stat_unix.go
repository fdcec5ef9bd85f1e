package backup

import (
	"io/fs"
	"syscall"
)

// changeTime returns the inode change time in nanoseconds and the inode number.
func changeTime(fi fs.FileInfo) (ctime int64, inode uint64) {
	st, ok := fi.Sys().(*syscall.Stat_t)
	if !ok {
		return 0, 0
	}
	return st.Ctim.Nano(), st.Ino
}
