package remote_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sync/errgroup"

	"github.com/hearth-build/hearth/cas"
	"github.com/hearth-build/hearth/cas/castest"
	"github.com/hearth-build/hearth/cas/memory"
	"github.com/hearth-build/hearth/cas/remote"
)

func TestStore(t *testing.T) {
	for name, noCompression := range map[string]bool{"compressed": false, "identity": true} {
		t.Run(name, func(t *testing.T) {
			castest.Test(t, func(t *testing.T) cas.Store {
				return newRig(t, memory.New(castest.Budget), remote.Options{Instance: instanceName, NoCompression: noCompression}).store
			})
		})
	}
}

func BenchmarkStore(b *testing.B) {
	for name, noCompression := range map[string]bool{"compressed": false, "identity": true} {
		b.Run(name, func(b *testing.B) {
			castest.Benchmark(b, func(b *testing.B) cas.Store {
				return newRig(b, memory.New(4<<30), remote.Options{Instance: instanceName, NoCompression: noCompression}).store
			})
		})
	}
}

// Upload passes what Put passes, from a store that has the blob.
func TestUpload(t *testing.T) {
	for _, f := range cas.Functions() {
		for _, size := range []int{0, 1, 1000, 128 << 10, 128<<10 + 1, 1 << 20, 5 << 20} {
			r := newRig(t, newMemory(), quick())
			local, data := newMemory(), random(byte(f), size)
			d, err := cas.PutBytes(t.Context(), local, f, data)
			if err != nil {
				t.Fatal(err)
			}
			for range 2 { // again is no error
				if err := r.store.Upload(t.Context(), d, local); err != nil {
					t.Fatalf("%v: %v", d, err)
				}
			}
			mustHold(t, r.behind, d, data)
			mustHold(t, r.store, d, data)
		}
	}
}

func TestUploadOfWhatIsGone(t *testing.T) {
	r := newRig(t, newMemory(), quick())
	for _, size := range []int{1000, 1 << 20} {
		d := cas.SHA256.Sum(random(1, size))
		if err := r.store.Upload(t.Context(), d, newMemory()); !errors.Is(err, cas.ErrNotFound) {
			t.Errorf("%d bytes: got %v, want the error of the source", size, err)
		}
	}
}

// What comes at the same time goes in batches.
func TestBatches(t *testing.T) {
	r := newRig(t, newMemory(), quick())
	const n = 2000
	blob := func(i int) []byte { return fmt.Appendf(nil, "blob %d %s", i, text(i%700)) }
	var puts, gets errgroup.Group
	for i := range n {
		puts.Go(func() error {
			return r.store.Put(t.Context(), cas.Checked(cas.SHA256.Sum(blob(i)), blob(i)))
		})
	}
	if err := puts.Wait(); err != nil {
		t.Fatal(err)
	}
	for i := range n {
		gets.Go(func() error {
			d := cas.SHA256.Sum(blob(i))
			got, err := cas.ReadAll(t.Context(), r.store, d, d.Size())
			if err == nil && !bytes.Equal(got, blob(i)) {
				err = fmt.Errorf("blob %d is another one", i)
			}
			return err
		})
	}
	if err := gets.Wait(); err != nil {
		t.Fatal(err)
	}
	for _, method := range []string{"BatchUpdateBlobs", "BatchReadBlobs", "FindMissingBlobs"} {
		if calls := r.calls.count(method); calls == 0 || calls > n/4 {
			t.Errorf("%d calls of %s for %d blobs", calls, method, n)
		}
	}
	if streams := r.calls.count("Read") + r.calls.count("Write"); streams > 0 {
		t.Errorf("%d streams for small blobs", streams)
	}
}

// REAPI A14: no batch is larger than the server's limit, also where blobs are
// just below the size from which they are streamed.
func TestBatchesOfLargeBlobs(t *testing.T) {
	r := newRig(t, newMemory(), quick())
	var group errgroup.Group
	for i := range 100 {
		group.Go(func() error {
			data := random(byte(i), 128<<10)
			d, err := cas.PutBytes(t.Context(), r.store, cas.SHA256, data)
			if err != nil {
				return err
			}
			got, err := cas.ReadAll(t.Context(), r.store, d, d.Size())
			if err == nil && !bytes.Equal(got, data) {
				err = errors.New("another blob came")
			}
			return err
		})
	}
	if err := group.Wait(); err != nil {
		t.Error(err)
	}
}

// REAPI A16, A17, D1-D3: where the server announces zstd, it is used.
func TestCompression(t *testing.T) {
	for _, noCompression := range []bool{false, true} {
		options := quick()
		options.NoCompression = noCompression
		r := newRig(t, newMemory(), options)
		data := text(1 << 20)
		d := put(t, r.store, data)
		mustHold(t, r.store, d, data)
		r.calls.mu.Lock()
		names := []string{r.calls.writes[0].GetResourceName(), r.calls.reads[0].GetResourceName()}
		r.calls.mu.Unlock()
		for _, name := range names {
			if packed := strings.Contains(name, "/compressed-blobs/zstd/"); packed == noCompression || !strings.HasPrefix(name, instanceName+"/") {
				t.Errorf("resource name %q, compression off: %t", name, noCompression)
			}
		}
	}
}

// REAPI C2, C5: messages stay below 1 MiB.
func TestFindMissingSplits(t *testing.T) {
	r := newRig(t, newMemory(), quick())
	var ds []cas.Digest
	for i := range 50_000 {
		ds = append(ds, cas.SHA256.Sum(fmt.Append(nil, i)), cas.SHA512.Sum(fmt.Append(nil, i)))
	}
	missing, err := r.store.FindMissing(t.Context(), slices.Concat(ds, ds[:1000]))
	if err != nil || len(missing) != len(ds) {
		t.Errorf("%d of %d are missing, %v", len(missing), len(ds), err)
	}
	// 50,000 digests of 84 bytes and as many of 148.
	if calls := r.calls.count("FindMissingBlobs"); calls < 12 || calls > 14 {
		t.Errorf("%d calls", calls)
	}
}

func TestReadsMayEndEarly(t *testing.T) {
	r := newRig(t, newMemory(), quick())
	d := put(t, r.behind, random(3, 8<<20))
	blob, err := r.store.Get(t.Context(), d, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(blob, make([]byte, 1000)); err != nil {
		t.Fatal(err)
	}
	if err := blob.Close(); err != nil {
		t.Error(err)
	}
	if n, err := blob.Read(make([]byte, 1)); n != 0 || err == nil || err == io.EOF {
		t.Errorf("read after Close: %d, %v", n, err)
	}
}

func TestClosed(t *testing.T) {
	r := newRig(t, newMemory(), quick())
	d := put(t, r.behind, []byte("small"))
	mustHold(t, r.store, d, []byte("small"))
	if err := r.store.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := r.store.Get(t.Context(), d, 0); err == nil || errors.Is(err, cas.ErrNotFound) {
		t.Errorf("Get of a closed store: %v", err)
	}
}

func TestOptions(t *testing.T) {
	err := remote.Options{CallTimeout: -1, StallTimeout: -1, MinDelay: 2, MaxDelay: 1}.Validate()
	for _, want := range []string{"call timeout", "stall timeout", "longest delay"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v does not name %q", err, want)
		}
	}
	if _, err := remote.New(nil, remote.Options{MinDelay: -1}); err == nil {
		t.Error("New takes a negative delay")
	}
}

func TestDial(t *testing.T) {
	for endpoint, ok := range map[string]bool{
		"grpc://127.0.0.1:8980": true, "grpcs://cache.example:443": true, "unix:///run/cache.sock": true, "grpc://[::1]:1": true,
		"127.0.0.1:8980": false, "grpc://127.0.0.1": false, "grpc://:8980": false, "http://127.0.0.1:1": false, "unix://relative": false, "": false,
	} {
		conn, err := remote.Dial(endpoint)
		if (err == nil) != ok {
			t.Errorf("%q: %v", endpoint, err)
		}
		if err != nil && !strings.Contains(err.Error(), "grpc://HOST:PORT") {
			t.Errorf("%q: %v does not say what is wanted", endpoint, err)
		}
		if err == nil {
			if err := conn.Close(); err != nil {
				t.Error(err)
			}
		}
	}
}
