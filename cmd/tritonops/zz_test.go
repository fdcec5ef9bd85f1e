package main

import (
	"testing"

	"github.com/tritonops/tritonops/pkg/lab/fault"
)

func TestZZ(t *testing.T) {
	r := begun(t, 6)
	for range 6 {
		r.change()
		clear := r.inject(fault.Fault{Service: "manta", Kind: fault.Reset, Side: "request", Method: "PUT", Path: images})
		_, out := r.try("-v", "imgapi", "backup", "run", "--max-delete", "100%")
		t.Log(out)
		clear()
		_, out = r.try("imgapi", "backup", "verify")
		t.Log(out)
		_, out = r.try("-v", "imgapi", "backup", "run", "--max-delete", "100%")
	}
}
