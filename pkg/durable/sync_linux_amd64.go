package durable

import (
	"fmt"
	"os"
	"syscall"
)

// sysSyncfs is syncfs(2) on linux/amd64; package syscall has no name for it.
const sysSyncfs = 306

// SyncTree makes everything below root durable, in one call to the file system
// where the kernel offers it.
func SyncTree(root string) error {
	d, err := os.Open(root)
	if err != nil {
		return err
	}
	defer d.Close()
	if _, _, errno := syscall.Syscall(sysSyncfs, d.Fd(), 0, 0); errno != 0 {
		if errno == syscall.ENOSYS {
			return syncEach(root)
		}
		return fmt.Errorf("%s: syncfs: %w", root, errno)
	}
	return nil
}
