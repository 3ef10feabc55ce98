package disk

import (
	"errors"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2"

	"github.com/hearth-build/hearth/cas"
)

// Whatever the hashes are: what is stored goes to the key-value library in order, so that
// its tables lie side by side and it has nothing to merge, also after a new start.
func TestValuesLieInOrder(t *testing.T) {
	dir := t.TempDir()
	for run := range uint64(2) {
		d := open(t, Options{Dir: dir})
		before := d.index.latest
		for table := range uint64(20) {
			var contents []*cas.Content
			for i := range uint64(100) {
				contents = append(contents, cas.SHA256.Content(random(run<<16|table<<8|i, 1000)))
			}
			if err := errors.Join(cas.PutAll(t.Context(), d.Namespace(""), contents)...); err != nil {
				t.Fatal(err)
			}
			if err := errors.Join(d.drain(t.Context()), d.values.sync()); err != nil {
				t.Fatal(err)
			}
		}
		m := d.values.db.Metrics()
		if n := m.Levels[0].TablesCount; n < 20 {
			t.Errorf("run %d: %d tables at the top, of 20 that were written", run, n)
		}
		if m.Levels[0].Sublevels != 1 || m.Compact.DefaultCount != 0 {
			t.Errorf("run %d: the tables lie in %d layers, and %d times some were merged", run, m.Levels[0].Sublevels, m.Compact.DefaultCount)
		}
		if run > 0 && before <= int64(time.Hour) {
			t.Errorf("the latest value was stored at %v", time.Unix(0, before))
		}
		mustClose(t, d)
	}
}

// A value that was evicted and came back with a start, since it had not been cleared, is
// dead if its blob was stored again later.
func TestOlderValueOfOneName(t *testing.T) {
	dir := t.TempDir()
	d := open(t, Options{Dir: dir})
	data := []byte("a blob that was stored twice")
	k := newKey(d.Namespace("").id, put(t, d.Namespace(""), data))
	e := d.index.blobs.get(k)
	older, later := appendName(appendTime(nil, e.written-1), e.name(), d.dirOf(e)), d.stored(nil, e)
	value := make([]byte, sealLen+len(data))
	seal(value, older, data)
	if err := errors.Join(d.drain(t.Context()), d.values.db.Set(older, value, pebble.Sync)); err != nil {
		t.Fatal(err)
	}
	mustClose(t, d)
	d = open(t, Options{Dir: dir})
	mustHold(t, d.Namespace(""), data)
	if n, want := d.Stats().Blobs, 1; n != want {
		t.Errorf("%d blobs, want %d", n, want)
	}
	d.index.clearAll()
	if err := d.drain(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := d.values.get(later, later, 0, len(value)); err != nil {
		t.Error(err)
	}
	if _, err := d.values.get(older, older, 0, len(value)); !errors.Is(err, pebble.ErrNotFound) {
		t.Errorf("the older value is still there: %v", err)
	}
}
