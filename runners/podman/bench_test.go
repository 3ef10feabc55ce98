package podman_test

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"slices"
	"testing"
	"time"

	"github.com/hearth-build/hearth/runners"
	"github.com/hearth-build/hearth/runners/podman"
)

// BenchmarkStart is a cold container of the host's image, until it is ready.
func BenchmarkStart(b *testing.B) {
	backend := open(b, options(b.TempDir()))
	for b.Loop() {
		r := start(b, backend, runners.HostImage)
		b.StopTimer()
		r.remove()
		b.StartTimer()
	}
}

// BenchmarkStartImage is the same of an image.
func BenchmarkStartImage(b *testing.B) {
	name := importImage(b, layer(b, busybox(b)...))
	backend := open(b, options(b.TempDir()))
	for b.Loop() {
		r := start(b, backend, name)
		b.StopTimer()
		r.remove()
		b.StartTimer()
	}
}

func BenchmarkRemove(b *testing.B) {
	backend := open(b, options(b.TempDir()))
	for b.Loop() {
		b.StopTimer()
		r := start(b, backend, runners.HostImage)
		b.StartTimer()
		r.remove()
	}
}

// BenchmarkCycle is the whole life of a container that runs nothing. Beside the time
// that it takes it tells how much of the machine's processors that is: what a spare costs
// whatever else is running.
func BenchmarkCycle(b *testing.B) {
	backend := open(b, options(b.TempDir()))
	start(b, backend, runners.HostImage).remove()
	before := processorTime(b)
	for b.Loop() {
		start(b, backend, runners.HostImage).remove()
	}
	b.ReportMetric(float64(processorTime(b)-before)*10/float64(b.N), "cpu-ms/op")
}

// processorTime is how long all processors were busy, in hundredths of a second.
func processorTime(b *testing.B) uint64 {
	text, err := os.ReadFile("/proc/stat")
	if err != nil {
		b.Fatal(err)
	}
	var user, nice, system uint64
	if _, err := fmt.Fscan(bytes.NewReader(bytes.TrimPrefix(text, []byte("cpu "))), &user, &nice, &system); err != nil {
		b.Fatal(err)
	}
	return user + nice + system
}

func BenchmarkFreeze(b *testing.B) {
	r := start(b, open(b, options(b.TempDir())), runners.HostImage)
	c := b.Context()
	for b.Loop() {
		if err := r.Freeze(c); err != nil {
			b.Fatal(err)
		}
		b.StopTimer()
		if err := r.Thaw(c); err != nil {
			b.Fatal(err)
		}
		b.StartTimer()
	}
}

func BenchmarkThaw(b *testing.B) {
	r := start(b, open(b, options(b.TempDir())), runners.HostImage)
	c := b.Context()
	for b.Loop() {
		b.StopTimer()
		if err := r.Freeze(c); err != nil {
			b.Fatal(err)
		}
		b.StartTimer()
		if err := r.Thaw(c); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkWake is what an action pays for a runner that is paused: until it is thawed,
// and until a command in it that does nothing has ended, against one in a runner that
// is not paused.
func BenchmarkWake(b *testing.B) {
	r := start(b, open(b, options(b.TempDir())), runners.HostImage)
	c := b.Context()
	cmd := shell("")
	cmd.Args = []string{"/bin/true"}
	var thaw, woken, awake []time.Duration
	for b.Loop() {
		if err := r.Freeze(c); err != nil {
			b.Fatal(err)
		}
		for _, times := range []*[]time.Duration{&woken, &awake} {
			begin := time.Now()
			if times == &woken {
				if err := r.Thaw(c); err != nil {
					b.Fatal(err)
				}
				thaw = append(thaw, time.Since(begin))
			}
			if _, err := r.Run(c, cmd, io.Discard, io.Discard); err != nil {
				b.Fatal(err)
			}
			*times = append(*times, time.Since(begin))
		}
	}
	for name, times := range map[string][]time.Duration{"thaw": thaw, "woken": woken, "awake": awake} {
		slices.Sort(times)
		b.ReportMetric(times[len(times)/2].Seconds()*1e3, "p50-ms-"+name)
	}
}

func BenchmarkCPUTime(b *testing.B) {
	r := start(b, open(b, options(b.TempDir())), runners.HostImage)
	for b.Loop() {
		if _, err := r.CPUTime(b.Context()); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkRun is a command that does nothing, in both modes.
func BenchmarkRun(b *testing.B) {
	for _, mode := range []podman.ExecMode{podman.ExecServer, podman.PodmanExec} {
		b.Run(string(mode), func(b *testing.B) {
			opts := options(b.TempDir())
			opts.ExecMode = mode
			r := start(b, open(b, opts), runners.HostImage)
			cmd := shell("")
			cmd.Args = []string{"/bin/true"}
			for b.Loop() {
				if _, err := r.Run(b.Context(), cmd, io.Discard, io.Discard); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
