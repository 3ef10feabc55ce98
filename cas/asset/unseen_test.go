package asset

import (
	"context"
	"errors"
	"testing"
	"time"
)

// Only what nobody has the result of is missed, however close it was.
func TestMissed(t *testing.T) {
	run := func(context.Context) (Fetched, error) { return Fetched{}, nil }
	late, cancel := context.WithDeadline(t.Context(), time.Now())
	defer cancel()
	for range 1000 {
		fs := newFlights()
		if _, err := fs.do(late, "late", time.Minute, run); !errors.Is(err, context.DeadlineExceeded) {
			t.Fatalf("got %v", err)
		}
		if _, err := fs.do(t.Context(), "in time", time.Minute, run); err != nil {
			t.Fatal(err)
		}
		if err := fs.close(t.Context()); err != nil {
			t.Fatal(err)
		}
		if _, ok := fs.missed("late"); !ok {
			t.Fatal("what came too late is not missed")
		}
		if _, ok := fs.missed("in time"); ok {
			t.Fatal("what came in time is missed")
		}
	}
}
