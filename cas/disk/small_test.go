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
		cs = append(cs, c)
	}
	return cs
}

// A blob in memory keeps the message in which it came only if that has little else in it.
func TestValuesOfAMessage(t *testing.T) {
	const size, many = 1000, 40
	for what, test := range map[string]struct {
		there int // of the blobs, before
		large bool
		part  bool
	}{
		"all new":           {},
		"some there":        {there: many / 4},
		"most there":        {there: many - 1, part: true},
		"with a large blob": {large: true, part: true},
	} {
		d := open(t, Options{})
		s := d.Namespace("")
		whole := random(uint64(len(what)), many*size)
		for b := range slices.Chunk(bytes.Clone(whole[:test.there*size]), size) {
			put(t, s, b)
		}
		cs := parts(t, whole, size)
		if test.large {
			cs = append(cs, parts(t, random(9, 10*splitSize), 10*splitSize)...)
		}
		for _, err := range s.PutAll(t.Context(), cs) {
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
			if own := &f.data[0] != &data[0]; own != test.part {
				t.Errorf("%s: blob %d has memory of its own: %t, want %t", what, i, own, test.part)
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
	whole := random(1, 2000)
	if err := s.Put(t.Context(), parts(t, whole, 1000)[1]); err != nil {
		t.Fatal(err)
	}
	if f := d.index.use(newKey(s.id, cas.SHA256.Sum(whole[1000:]))); !bytes.Equal(f.data, whole[1000:]) || &f.data[0] == &whole[1000] {
		t.Errorf("%d bytes, not in memory of their own", len(f.data))
	}
}
