package castest

import (
	"bytes"
	"errors"
	"io"
	"testing"

	"github.com/hearth-build/hearth/cas"
)

// REAPI C44.
func testLeases(t *testing.T, s cas.Store) {
	l, ok := s.(cas.Leaser)
	if !ok {
		return
	}
	small, large := random(30, 500), random(31, 2<<20)
	a, b := put(t, s, cas.SHA256, small), put(t, s, cas.SHA256, large)
	free := put(t, s, cas.SHA256, []byte("free to go"))
	asked := []cas.Digest{a, b, b, cas.SHA256.Empty()}
	release, again := l.Lease(asked), l.Lease([]cas.Digest{b})
	clear(asked) // the caller's slice is the caller's
	press(t, s, 32)
	mustHold(t, s, a, small)
	mustHold(t, s, b, large)
	mustLack(t, s, free)
	release()
	press(t, s, 33)
	mustLack(t, s, a)
	mustHold(t, s, b, large) // one lease of two is left
	again()
	press(t, s, 34)
	mustLack(t, s, b)
}

func testLeaseBeforePut(t *testing.T, s cas.Store) {
	l, ok := s.(cas.Leaser)
	if !ok {
		return
	}
	data := random(35, 1000)
	d := cas.SHA256.Sum(data)
	release := l.Lease([]cas.Digest{d})
	mustLack(t, s, d)
	put(t, s, cas.SHA256, data)
	press(t, s, 36)
	mustHold(t, s, d, data)
	release()

	// With everything leased there is no room, reads go on, and room comes back.
	var all []func()
	var err error
	var last cas.Digest
	for i := 0; err == nil && i <= 2*Budget>>20; i++ {
		last, err = cas.PutBytes(t.Context(), s, cas.SHA256, append(random(37, 1<<20), byte(i)))
		all = append(all, l.Lease([]cas.Digest{last}))
	}
	if !errors.Is(err, cas.ErrNoSpace) {
		t.Errorf("Put with all blobs leased: got %v, want ErrNoSpace", err)
	}
	mustLack(t, s, last)
	first := append(random(37, 1<<20), 0)
	mustHold(t, s, cas.SHA256.Sum(first), first)
	for _, release := range all {
		release()
	}
	put(t, s, cas.SHA256, random(38, 1<<20))
}

// REAPI D36.
func testEvictedWhileRead(t *testing.T, s cas.Store) {
	data := random(39, 3<<20)
	d := put(t, s, cas.SHA256, data)
	r, err := s.Get(t.Context(), d, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	half := make([]byte, len(data)/2)
	if _, err := io.ReadFull(r, half); err != nil {
		t.Fatal(err)
	}
	press(t, s, 40)
	rest, err := io.ReadAll(r)
	if err == nil && !bytes.Equal(append(half, rest...), data) {
		t.Errorf("%d+%d bytes of an evicted blob were read without an error", len(half), len(rest))
	}
}
