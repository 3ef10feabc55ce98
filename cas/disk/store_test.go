package disk_test

import (
	"testing"

	"github.com/hearth-build/hearth/cas"
	"github.com/hearth-build/hearth/cas/castest"
	"github.com/hearth-build/hearth/cas/disk"
)

// open opens a store that is closed, without an error, when the test ends.
func open(t testing.TB, options disk.Options) *disk.Disk {
	t.Helper()
	if options.Dir == "" {
		options.Dir = t.TempDir()
	}
	d, err := disk.Open(t.Context(), options)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := d.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
	})
	return d
}

func TestStore(t *testing.T) {
	castest.Test(t, func(t *testing.T) cas.Store {
		return open(t, disk.Options{MaxBytes: castest.Budget}).Namespace("main")
	})
}

func BenchmarkStore(b *testing.B) {
	castest.Benchmark(b, func(b *testing.B) cas.Store {
		return open(b, disk.Options{MaxBytes: 4 << 30}).Namespace("main")
	})
}
