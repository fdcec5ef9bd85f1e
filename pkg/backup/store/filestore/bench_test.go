package filestore_test

import (
	"context"
	"fmt"
	"sync/atomic"
	"testing"

	"github.com/tritonops/tritonops/pkg/backup/store"
	"github.com/tritonops/tritonops/pkg/backup/store/filestore"
)

// BenchmarkPutSmall writes objects of the size of a manifest, 32 at a time.
func BenchmarkPutSmall(b *testing.B) {
	for name, o := range map[string]filestore.Options{"sync": {}, "nosync": {NoSync: true}} {
		b.Run(name, func(b *testing.B) {
			s, err := filestore.New(b.TempDir(), o)
			if err != nil {
				b.Fatal(err)
			}
			content := store.Bytes(make([]byte, 1500))
			var n atomic.Int64
			b.SetParallelism(16)
			b.RunParallel(func(pb *testing.PB) {
				for pb.Next() {
					if _, err := s.Put(context.Background(), fmt.Sprintf("manifests/%08d", n.Add(1)), content, store.Condition{}); err != nil {
						b.Error(err)
						return
					}
				}
			})
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "puts/s")
		})
	}
}

// BenchmarkList lists a directory of 10,000 objects.
func BenchmarkList(b *testing.B) {
	s, err := filestore.New(b.TempDir(), filestore.Options{NoSync: true})
	if err != nil {
		b.Fatal(err)
	}
	const n = 10000
	for i := range n {
		if _, err := s.Put(context.Background(), fmt.Sprintf("manifests/%08d", i), store.Bytes("x"), store.Condition{}); err != nil {
			b.Fatal(err)
		}
	}
	b.ResetTimer()
	for b.Loop() {
		got := 0
		for info, err := range s.List(context.Background(), "manifests") {
			if err != nil || !info.HasMD5 {
				b.Fatalf("%+v, %v", info, err)
			}
			got++
		}
		if got != n {
			b.Fatalf("%d listed", got)
		}
	}
	b.ReportMetric(float64(n*b.N)/b.Elapsed().Seconds(), "entries/s")
}
