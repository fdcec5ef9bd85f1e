package status

import (
	"testing"

	"github.com/tritonops/tritonops/pkg/health"
)

// BenchmarkManifests10000 measures the walk that three checks share.
func BenchmarkManifests10000(b *testing.B) {
	z := newZone(b, 10_000, "")
	for b.Loop() {
		if o, _ := z.run().Outcome("image_list"); o.Status != health.OK {
			b.Fatalf("%+v", o)
		}
	}
}
