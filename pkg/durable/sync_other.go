//go:build !(linux && amd64)

package durable

// SyncTree makes everything below root durable.
func SyncTree(root string) error { return syncEach(root) }
