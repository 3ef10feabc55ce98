package cluster

import "testing"

// The wait grows, is bounded, and is at least half of what it may be.
func TestBackoffGrows(t *testing.T) {
	var b Backoff
	for n, most := 1, minBackoff; n < 20; n, most = n+1, min(2*most, maxBackoff) {
		if first := b.First(); first != (n == 1) {
			t.Errorf("failure %d is the first: %v", n, first)
		}
		if pause := b.Pause(); pause < most/2 || pause > most {
			t.Errorf("after %d failures it waits %v, want %v to %v", n, pause, most/2, most)
		}
	}
	if !b.Reset() || b.Reset() {
		t.Error("a success after failures is told once")
	}
}
