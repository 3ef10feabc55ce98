package tiered

import (
	"sync"
	"time"

	"github.com/hearth-build/hearth/cas"
)

// known remembers for a time which digests were seen, and at most so many: the
// newer half of what it holds and the older one take turns.
type known struct {
	lifetime time.Duration // not positive: nothing is remembered
	half     int

	mu           sync.Mutex // guards all below
	newer, older map[cas.Digest]time.Time
}

func newKnown(lifetime time.Duration, most int) *known {
	return &known{lifetime: lifetime, half: max(1, most/2), newer: map[cas.Digest]time.Time{}}
}

// has reports whether a digest was added not too long ago.
func (k *known) has(d cas.Digest) bool {
	if k.lifetime <= 0 {
		return false
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	at, ok := k.newer[d]
	if !ok {
		at, ok = k.older[d]
	}
	return ok && time.Since(at) < k.lifetime
}

// add remembers digests from now on.
func (k *known) add(ds ...cas.Digest) {
	if k.lifetime <= 0 {
		return
	}
	now := time.Now()
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, d := range ds {
		if len(k.newer) >= k.half {
			k.older, k.newer = k.newer, make(map[cas.Digest]time.Time)
		}
		k.newer[d] = now
	}
}

// remove forgets a digest.
func (k *known) remove(d cas.Digest) {
	k.mu.Lock()
	defer k.mu.Unlock()
	delete(k.newer, d)
	delete(k.older, d)
}
