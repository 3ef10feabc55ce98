package main

import (
	"context"
	"errors"
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
