package status

import "golang.org/x/sys/unix"

// StatDisk asks the system for the room on the file system that holds path.
func StatDisk(path string) (Usage, error) {
	var st unix.Statfs_t
	if err := unix.Statfs(path, &st); err != nil {
		return Usage{}, err
	}
	bs := uint64(st.Bsize)
	// Available is what is left for ordinary users, as df counts.
	return Usage{Used: (st.Blocks - st.Bfree) * bs, Available: st.Bavail * bs, Files: st.Files, FilesFree: st.Ffree}, nil
}
