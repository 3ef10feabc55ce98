package castest

import (
	"encoding/binary"
	"testing"

	"github.com/hearth-build/hearth/cas"
)

// REAPI C1-C3.
func testFindMissing(t *testing.T, s cas.Store) {
	present := put(t, s, cas.SHA256, []byte("present"))
	absent := cas.SHA256.Sum([]byte("absent"))
	other := cas.BLAKE3.Sum([]byte("absent"))
	empty := cas.SHA256.Empty()
	missing, err := s.FindMissing(t.Context(), []cas.Digest{absent, present, empty, absent, other, present, empty, absent})
	if err != nil {
		t.Fatal(err)
	}
	sameSet(t, missing, []cas.Digest{absent, other})
	for _, none := range [][]cas.Digest{nil, {}, {present, present}, {empty}} {
		if missing, err := s.FindMissing(t.Context(), none); err != nil || len(missing) != 0 {
			t.Errorf("FindMissing %v: got %v, %v", none, missing, err)
		}
	}
}

// REAPI C5.
func testFindMissingMany(t *testing.T, s cas.Store) {
	var ask, want []cas.Digest
	for i := range 15_000 {
		data := binary.BigEndian.AppendUint32([]byte("many "), uint32(i))
		d := cas.SHA256.Sum(data)
		ask = append(ask, d)
		if i%100 == 0 {
			put(t, s, cas.SHA256, data)
		} else {
			want = append(want, d)
		}
	}
	ask = append(ask, ask[:200]...)
	missing, err := s.FindMissing(t.Context(), ask)
	if err != nil {
		t.Fatal(err)
	}
	sameSet(t, missing, want)
}

func sameSet(t *testing.T, got, want []cas.Digest) {
	t.Helper()
	left := make(map[cas.Digest]bool)
	for _, d := range want {
		left[d] = true
	}
	for _, d := range got {
		if !left[d] {
			t.Errorf("%v was returned, but is present, was not asked for, or came twice", d)
		}
		delete(left, d)
	}
	if len(left) != 0 {
		t.Errorf("%d of %d missing blobs were not returned", len(left), len(want))
	}
}

// REAPI C4, C21.
func testFindMissingIsAUse(t *testing.T, s cas.Store) {
	uses := map[string]func(d cas.Digest) error{
		"FindMissing": func(d cas.Digest) error { _, err := s.FindMissing(t.Context(), []cas.Digest{d}); return err },
		"Get":         func(d cas.Digest) error { _, err := get(t.Context(), s, d, 0); return err },
		"Put":         func(d cas.Digest) error { return s.Put(t.Context(), cas.NewContent(d, unread{t})) },
	}
	kept := make(map[string]cas.Digest)
	for name := range uses {
		kept[name] = put(t, s, cas.SHA256, []byte("kept by "+name))
	}
	// Three times the budget goes through, and the kept blobs are in use all along.
	data := random(20, 1<<20)
	for i := range uint32(3 * Budget >> 20) {
		binary.BigEndian.PutUint32(data, i)
		put(t, s, cas.SHA256, append([]byte(nil), data...))
		for name, use := range uses {
			if err := use(kept[name]); err != nil {
				t.Fatalf("%s after %d MiB: %v", name, i, err)
			}
		}
	}
	for name, d := range kept {
		if !has(t, s, d) {
			t.Errorf("a blob in use by %s was evicted", name)
		}
	}
}

// unread fails the test when the content of a present blob is asked for and
// returns nothing.
type unread struct{ t *testing.T }

func (u unread) Read([]byte) (int, error) {
	u.t.Error("the blob was evicted: its content was read")
	return 0, cas.ErrNotFound
}
