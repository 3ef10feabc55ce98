package main

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

func TestMeasure(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m, err := load{concurrency: 2, duration: 10 * time.Second}.measure(t.Context(), "x", func(context.Context) error {
			time.Sleep(100 * time.Millisecond) // virtual time
			return nil
		})
		if err != nil || m.Count != 200 || m.PerSecond != 20 || m.P50 != 100*time.Millisecond || m.P99 != m.P50 || m.Max != m.P50 {
			t.Errorf("%+v, %v", m, err)
		}
	})
}

func TestMeasureCount(t *testing.T) {
	var calls atomic.Int64
	m, err := load{concurrency: 3, duration: time.Minute, count: 10}.measure(t.Context(), "x", func(context.Context) error {
		calls.Add(1)
		return nil
	})
	if err != nil || m.Count != 10 || calls.Load() != 10 {
		t.Errorf("%+v, %v, %d calls", m, err, calls.Load())
	}
}

func TestMeasureStopsAtTheFirstFailure(t *testing.T) {
	broken := errors.New("broken")
	_, err := load{concurrency: 2, duration: time.Minute}.measure(t.Context(), "x", func(context.Context) error { return broken })
	if !errors.Is(err, broken) {
		t.Errorf("%v", err)
	}
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(broken)
	if _, err := (load{concurrency: 1, duration: time.Minute}).measure(ctx, "x", func(context.Context) error { return nil }); !errors.Is(err, broken) {
		t.Errorf("%v", err)
	}
}

// What is compared from run to run is how a thing relates to the first of its run.
func TestHistory(t *testing.T) {
	file := filepath.Join(t.TempDir(), "history")
	first := []measurement{{Name: "a", Concurrency: 1, PerSecond: 100}, {Name: "b", Concurrency: 1, PerSecond: 50}}
	if run, err := lastRun(file, first); run != nil || err != nil {
		t.Errorf("of no history: %+v, %v", run, err)
	}
	others := []measurement{{Name: "a", Concurrency: 2, PerSecond: 1}, {Name: "b", Concurrency: 1, PerSecond: 1}}
	for _, results := range [][]measurement{first, others} {
		if err := (benchRun{Version: "v1", Results: results}).append(file); err != nil {
			t.Fatal(err)
		}
	}
	now := []measurement{{Name: "a", Concurrency: 1, PerSecond: 10}, {Name: "b", Concurrency: 1, PerSecond: 10}}
	run, err := lastRun(file, now)
	if err != nil || run == nil || run.Results[0].PerSecond != 100 {
		t.Fatalf("%+v, %v", run, err)
	}
	var out strings.Builder
	if err := printChanges(&out, run, now); err != nil {
		t.Fatal(err)
	}
	if fields := strings.Fields(out.String()); !slices.Equal(fields[len(fields)-4:], []string{"b", "0.500", "1.000", "2.00"}) {
		t.Errorf("%q", out.String())
	}
	if err := os.WriteFile(file, []byte("no JSON"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := lastRun(file, now); err == nil || !strings.Contains(err.Error(), "line 1") {
		t.Errorf("of another file: %v", err)
	}
}

func TestBenchBuildMistakes(t *testing.T) {
	err := (&benchBuildCmd{Bazel: "no-such-bazel", Libraries: 1, Genrules: 1, Jobs: 1, Include: []string{"regex", "sys/stat.h", "a b"}}).validate()
	if err == nil || !strings.Contains(err.Error(), `--include is "a b"`) || strings.Contains(err.Error(), "stat.h") || !strings.Contains(err.Error(), "--rounds is 0") || !strings.Contains(err.Error(), "no-such-bazel") {
		t.Errorf("%v", err)
	}
}
