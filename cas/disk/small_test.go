package disk

import (
	"bytes"
	"slices"
	"testing"

	"github.com/hearth-build/hearth/cas"
)

// parts verifies blobs that lie side by side in one piece of memory, as those of a message.
func parts(t *testing.T, whole []byte, size int) (cs []*cas.Content) {
	t.Helper()
	for b := range slices.Chunk(whole, size) {
		c, err := cas.Verify(cas.SHA256.Sum(b), b)
		if err != nil {
			t.Fatal(err)
		}
		c.PartOf(int64(len(whole)))
		cs = append(cs, c)
	}
	return cs
}

// A blob in memory keeps the message in which it came only if that has little else in it.
func TestValuesOfAMessage(t *testing.T) {
	const size, many = 1000, 40
	for what, test := range map[string]struct {
		there int // of the blobs, before
		again int // how often the first one comes
		copy  bool
	}{
		"all new":    {},
		"some there": {there: many / 4},
		"most there": {there: many - 1, copy: true},
		"duplicates": {again: 2 * many, copy: true},
	} {
		d := open(t, Options{})
		s := d.Namespace("")
		distinct := random(uint64(len(what)), many*size)
		for b := range slices.Chunk(bytes.Clone(distinct[:test.there*size]), size) {
			put(t, s, b)
		}
		whole := slices.Concat(distinct, bytes.Repeat(distinct[:size], test.again))
		for _, err := range s.PutAll(t.Context(), parts(t, whole, size)) {
			if err != nil {
				t.Fatal(what, err)
			}
		}
		for i := test.there; i < many; i++ {
			data := whole[i*size : (i+1)*size]
			f := d.index.use(newKey(s.id, cas.SHA256.Sum(data)))
			if !bytes.Equal(f.data, data) {
				t.Fatalf("%s: blob %d has %d bytes in memory", what, i, len(f.data))
			}
			if copied := &f.data[0] != &data[0]; copied != test.copy {
				t.Errorf("%s: blob %d was copied: %t, want %t", what, i, copied, test.copy)
			}
		}
		mustClose(t, d)
	}
}

// A blob that comes alone keeps nothing else.
func TestValueOfItsOwn(t *testing.T) {
	d := open(t, Options{})
	defer mustClose(t, d)
	s := d.Namespace("")
	whole := random(1, 3000)
	if err := s.Put(t.Context(), parts(t, whole, 1000)[1]); err != nil {
		t.Fatal(err)
	}
	if f := d.index.use(newKey(s.id, cas.SHA256.Sum(whole[1000:2000]))); !bytes.Equal(f.data, whole[1000:2000]) || &f.data[0] == &whole[1000] {
		t.Errorf("%d bytes, not in memory of their own", len(f.data))
	}
}
