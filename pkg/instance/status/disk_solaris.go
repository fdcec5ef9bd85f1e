//go:build solaris || illumos

package status

import "golang.org/x/sys/unix"

// StatDisk asks the system for the room on the file system that holds path.
func StatDisk(path string) (Usage, error) {
	var st unix.Statvfs_t
	if err := unix.Statvfs(path, &st); err != nil {
		return Usage{}, err
	}
	// Counted in fragments, unlike Linux's statfs. ZFS makes inodes as needed and
	// reports what would fit, so Files says nothing there: st.Files moves with the
	// free space and its share used stays small.
	return Usage{Used: (st.Blocks - st.Bfree) * st.Frsize, Available: st.Bavail * st.Frsize, Files: st.Files, FilesFree: st.Ffree}, nil
}
