//go:build illumos || solaris

package ui

// survey does not build here (it wants syscall.SYS_IOCTL); the same questions
// are asked plainly.
func newAsker(t tty) asker { return newPlain(t) }
