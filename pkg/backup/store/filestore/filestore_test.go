package filestore_test

import (
	"testing"

	"github.com/tritonops/tritonops/pkg/backup/store"
	"github.com/tritonops/tritonops/pkg/backup/store/filestore"
	"github.com/tritonops/tritonops/pkg/backup/store/storetest"
)

func open(t *testing.T, o filestore.Options) *filestore.Store {
	t.Helper()
	s, err := filestore.New(t.TempDir()+"/store", o)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestContract(t *testing.T) {
	storetest.Run(t, func(t *testing.T) store.Store { return open(t, filestore.Options{}) })
}
