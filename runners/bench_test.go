package runners_test

import (
	"testing"

	"github.com/hearth-build/hearth/runners"
	"github.com/hearth-build/hearth/runners/runnertest"
)

// BenchmarkAcquireRelease of a warm runner: what the pool adds to each action.
func BenchmarkAcquireRelease(b *testing.B) {
	for name, policy := range map[string]runners.PausePolicy{"adaptive": runners.PauseAdaptive, "never": runners.PauseNever} {
		b.Run(name, func(b *testing.B) {
			pool, err := runners.NewPool(runnertest.NewFake(), runners.Options{Dir: b.TempDir(), Pause: policy, MaxRunners: 64})
			if err != nil {
				b.Fatal(err)
			}
			req := runners.Request{Platform: platform(b, "recycle-runner=true", "container-image=docker://docker.io/library/debian:12"), Tenant: "t"}
			var others []*runners.Lease // idle beside the one that is used
			for range 32 {
				other := req
				other.Instance = "other"
				lease, err := pool.Acquire(b.Context(), other)
				if err != nil {
					b.Fatal(err)
				}
				others = append(others, lease)
			}
			for _, lease := range others {
				lease.Release()
			}
			b.ReportAllocs()
			for b.Loop() {
				lease, err := pool.Acquire(b.Context(), req)
				if err != nil {
					b.Fatal(err)
				}
				lease.Release()
			}
			if err := pool.Close(b.Context()); err != nil {
				b.Error(err)
			}
		})
	}
}

func BenchmarkParsePlatform(b *testing.B) {
	sent := props("recycle-runner=true", "container-image=docker://docker.io/library/debian:12", "OSFamily=linux", "Pool=default", "cores=4")
	b.ReportAllocs()
	for b.Loop() {
		if _, err := runners.ParsePlatform(sent, nil, nil); err != nil {
			b.Fatal(err)
		}
	}
}
