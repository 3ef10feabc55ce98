package castest

import (
	"bytes"
	"context"
	"errors"
	"io"
	"sync"
	"testing"
	"testing/iotest"

	"golang.org/x/sync/errgroup"

	"github.com/hearth-build/hearth/cas"
)

// putSizes are a blob that stores handle at once and one they handle in pieces.
func putSizes() []int { return []int{1000, 3 << 20} }

// REAPI 0.1, 0.2.
func testMismatch(t *testing.T, s cas.Store) {
	for _, size := range putSizes() {
		data := random(10, size)
		flipped := bytes.Clone(data)
		flipped[size-1] ^= 0x80
		for name, sent := range map[string][]byte{
			"short":   data[:size-1],
			"nothing": nil,
			"long":    append(bytes.Clone(data), 0),
			"flipped": flipped,
		} {
			d := cas.SHA256.Sum(data)
			if err := s.Put(t.Context(), cas.Checked(d, sent)); !errors.Is(err, cas.ErrMismatch) {
				t.Errorf("%s, %d bytes: got %v, want ErrMismatch", name, size, err)
			}
			mustLack(t, s, d)
		}
		mustHold(t, s, put(t, s, cas.SHA256, data), data) // nothing is left in the way
	}
}

// REAPI 0.2, D20.
func testReaderFails(t *testing.T, s cas.Store) {
	broken := errors.New("the client went away")
	for _, size := range putSizes() {
		data := random(11, size)
		for _, n := range []int{0, size / 2, size} {
			d := cas.SHA256.Sum(data)
			r := io.MultiReader(bytes.NewReader(data[:n]), iotest.ErrReader(broken))
			if err := s.Put(t.Context(), cas.NewContent(d, r)); !errors.Is(err, broken) {
				t.Errorf("reader that fails after %d of %d bytes: got %v, want its error", n, size, err)
			}
			mustLack(t, s, d)
		}
		mustHold(t, s, put(t, s, cas.SHA256, data), data)
	}
}

func testCancelled(t *testing.T, s cas.Store) {
	why := errors.New("the server stops")
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(why)
	present := put(t, s, cas.SHA256, []byte("present"))
	c := cas.SHA256.Content([]byte("new"))
	if err := s.Put(ctx, c); !errors.Is(err, why) {
		t.Errorf("Put: got %v, want the cause", err)
	}
	mustLack(t, s, c.Digest())
	if _, err := s.Get(ctx, present, 0); !errors.Is(err, why) {
		t.Errorf("Get: got %v, want the cause", err)
	}
	if missing, err := s.FindMissing(ctx, []cas.Digest{present}); !errors.Is(err, why) || missing != nil {
		t.Errorf("FindMissing: got %v, %v, want the cause", missing, err)
	}
}

func testCancelledHalfWay(t *testing.T, s cas.Store) {
	for _, size := range putSizes() {
		ctx, cancel := context.WithCancel(t.Context())
		data := random(12, size)
		d := cas.SHA256.Sum(data)
		r := io.MultiReader(bytes.NewReader(data[:size/2]), calls(cancel), bytes.NewReader(data[size/2:]))
		if err := s.Put(ctx, cas.NewContent(d, r)); !errors.Is(err, context.Canceled) {
			t.Errorf("%d bytes: got %v, want Canceled", size, err)
		}
		mustLack(t, s, d)
	}
}

// calls is an empty reader that calls f when it is reached.
func calls(f func()) io.Reader {
	return readerFunc(func([]byte) (int, error) {
		f()
		return 0, io.EOF
	})
}

type readerFunc func(p []byte) (int, error)

func (f readerFunc) Read(p []byte) (int, error) { return f(p) }

// REAPI C14.
func testPutAgain(t *testing.T, s cas.Store) {
	for _, size := range putSizes() {
		data := random(13, size)
		for range 3 {
			mustHold(t, s, put(t, s, cas.SHA256, data), data)
		}
	}
}

// REAPI C42, D22.
func testConcurrentPut(t *testing.T, s cas.Store) {
	for _, size := range putSizes() {
		data := random(14, size)
		d := cas.SHA256.Sum(data)
		var g errgroup.Group
		start := make(chan struct{})
		clients := 32
		if size > 1<<20 {
			clients = 8 // which take long enough to meet
		}
		for range clients {
			g.Go(func() error {
				<-start
				if err := s.Put(t.Context(), cas.Checked(d, data)); err != nil {
					return err
				}
				got, err := get(t.Context(), s, d, 0) // visible as soon as any Put has returned
				if err == nil && !bytes.Equal(got, data) {
					err = errors.New("the blob read after Put is not the one stored")
				}
				return err
			})
		}
		close(start)
		if err := g.Wait(); err != nil {
			t.Errorf("%d bytes: %v", size, err)
		}
		mustHold(t, s, d, data)
	}
}

// A writer that fails, stalls for a while or lies must not fail those that
// bring the right bytes.
func testFailingWriterFailsAlone(t *testing.T, s cas.Store) {
	broken := errors.New("the client went away")
	for _, size := range putSizes() {
		data := random(15, size)
		d := cas.SHA256.Sum(data)
		begun, others := make(chan struct{}), make(chan struct{})
		first := make(chan error, 1)
		var wg sync.WaitGroup
		wg.Go(func() {
			fail := readerFunc(func([]byte) (int, error) {
				<-others
				return 0, broken
			})
			r := io.MultiReader(calls(func() { close(begun) }), bytes.NewReader(data[:size/2]), fail)
			first <- s.Put(t.Context(), cas.NewContent(d, r))
		})
		<-begun
		var g errgroup.Group
		for range 8 {
			g.Go(func() error { return s.Put(t.Context(), cas.Checked(d, data)) })
		}
		close(others)
		if err := g.Wait(); err != nil {
			t.Errorf("%d bytes: another writer failed: %v", size, err)
		}
		wg.Wait()
		if err := <-first; err != nil && !errors.Is(err, broken) {
			t.Errorf("%d bytes: the first writer got %v", size, err)
		}
		mustHold(t, s, d, data)
	}
}

func testPutWhileGet(t *testing.T, s cas.Store) {
	data := random(16, 3<<20)
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
	put(t, s, cas.SHA256, data)
	put(t, s, cas.SHA256, random(17, 3<<20))
	rest, err := io.ReadAll(r)
	if err != nil || !bytes.Equal(append(half, rest...), data) {
		t.Errorf("read %d+%d bytes with Puts in between: %v", len(half), len(rest), err)
	}
}
