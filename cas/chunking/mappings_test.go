package chunking

import (
	"fmt"
	"testing"

	"github.com/hearth-build/hearth/cas"
)

func TestMappingsAreBounded(t *testing.T) {
	m := newMappings(10)
	blob := func(i int) cas.Digest { return cas.SHA256.Sum(fmt.Append(nil, i)) }
	for i := range 100 {
		m.add(blob(i), make([]cas.Digest, 3))
		m.add(blob(i), make([]cas.Digest, 3)) // again: no change
		if m.get(blob(0)) == nil {
			t.Fatalf("the blob that is asked for every time is forgotten after %d others", i)
		}
	}
	for i := range 100 {
		if known := m.get(blob(i)) != nil; known != (i == 0 || i >= 98) {
			t.Errorf("blob %d: known %t", i, known)
		}
	}
	if m.used != 9 || len(m.byBlob) != 3 || m.order.Len() != 3 {
		t.Errorf("%d chunks in %d and %d mappings", m.used, len(m.byBlob), m.order.Len())
	}
	if m.add(blob(100), make([]cas.Digest, 11)); m.get(blob(100)) != nil || m.get(blob(0)) == nil {
		t.Error("a mapping above the limit drove out the others")
	}
}
