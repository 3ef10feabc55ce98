package cas_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"testing"
	"testing/iotest"

	"github.com/hearth-build/hearth/cas"
)

// The two ways to consume a Content; both check.
var consumers = map[string]func(*cas.Content) ([]byte, error){
	"Read":  func(c *cas.Content) ([]byte, error) { return io.ReadAll(c) },
	"Bytes": func(c *cas.Content) ([]byte, error) { return c.Bytes() },
}

// REAPI 0.1, 0.3.
func TestContent(t *testing.T) {
	data := bytes.Repeat([]byte("0123456789abcdef"), 1000)
	flipped := bytes.Clone(data)
	flipped[len(flipped)/2] ^= 1
	for _, f := range cas.Functions() {
		d := f.Sum(data)
		for name, consume := range consumers {
			for _, tc := range []struct {
				name string
				sent []byte
				ok   bool
			}{
				{"right", data, true},
				{"short", data[:len(data)-1], false},
				{"nothing", nil, false},
				{"long", append(bytes.Clone(data), 'x'), false},
				{"flipped", flipped, false},
			} {
				readers := map[string]io.Reader{
					"at once":       bytes.NewReader(tc.sent),
					"byte by byte":  iotest.OneByteReader(bytes.NewReader(tc.sent)),
					"data with EOF": iotest.DataErrReader(bytes.NewReader(tc.sent)),
				}
				for how, r := range readers {
					got, err := consume(cas.NewContent(d, r))
					switch {
					case tc.ok && (err != nil || !bytes.Equal(got, data)):
						t.Errorf("%v %s %s %s: %d bytes, %v", f, name, tc.name, how, len(got), err)
					case !tc.ok && !errors.Is(err, cas.ErrMismatch):
						t.Errorf("%v %s %s %s: got %v, want ErrMismatch", f, name, tc.name, how, err)
					}
				}
			}
		}
	}
}

func TestContentStopsAtTheFirstByteTooMany(t *testing.T) {
	endless := readerFunc(func(p []byte) (int, error) { return len(p), nil })
	for name, consume := range consumers {
		if _, err := consume(cas.NewContent(cas.SHA256.Sum([]byte("abc")), endless)); !errors.Is(err, cas.ErrMismatch) {
			t.Errorf("%s: got %v, want ErrMismatch", name, err)
		}
	}
}

func TestContentKeepsItsError(t *testing.T) {
	broken := errors.New("the client went away")
	for name, consume := range consumers {
		c := cas.NewContent(cas.SHA256.Sum([]byte("abcdef")), io.MultiReader(bytes.NewReader([]byte("abc")), iotest.ErrReader(broken)))
		if _, err := consume(c); !errors.Is(err, broken) {
			t.Errorf("%s: got %v, want %v", name, err, broken)
		}
		if n, err := c.Read(make([]byte, 1)); n != 0 || !errors.Is(err, broken) {
			t.Errorf("%s, again: got %d, %v", name, n, err)
		}
	}
}

func TestUnread(t *testing.T) {
	for _, c := range []*cas.Content{cas.SHA256.Content([]byte("abc")), cas.Checked(cas.SHA256.Sum([]byte("abc")), []byte("abc")), cas.SHA256.Content(nil)} {
		if !c.Unread() {
			t.Errorf("%v counts as read before it is", c.Digest())
		}
		if _, err := c.Bytes(); err != nil || c.Unread() {
			t.Errorf("%v after Bytes: %v, unread %t", c.Digest(), err, c.Unread())
		}
	}
}

// A client may claim any size; memory follows what it sends.
func TestBytesDoesNotTrustTheSize(t *testing.T) {
	d, err := cas.ParseDigest(cas.SHA256, cas.SHA256.Sum([]byte("abc")).Hash(), 1<<62)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := cas.Checked(d, []byte("abc")).Bytes(); !errors.Is(err, cas.ErrMismatch) {
		t.Errorf("got %v, want ErrMismatch", err)
	}
}

func TestContentOfComputedDigest(t *testing.T) {
	for _, data := range [][]byte{nil, []byte("abc")} {
		for name, consume := range consumers {
			c := cas.BLAKE3.Content(data)
			got, err := consume(c)
			if err != nil || !bytes.Equal(got, data) || c.Digest() != cas.BLAKE3.Sum(data) {
				t.Errorf("%s: got %q, %v for %v", name, got, err, c.Digest())
			}
			if n, err := c.Read(make([]byte, 1)); n != 0 || err != io.EOF {
				t.Errorf("%s: a second reading gave %d, %v", name, n, err)
			}
		}
	}
}

// fixed is a Getter with one blob, whose reader may end early.
type fixed struct {
	d    cas.Digest
	data []byte
}

func (g fixed) Get(_ context.Context, d cas.Digest, offset int64) (io.ReadCloser, error) {
	if d != g.d {
		return nil, &cas.MissingError{Digests: []cas.Digest{d}}
	}
	return io.NopCloser(bytes.NewReader(g.data[offset:])), nil
}

func TestReadAll(t *testing.T) {
	data := []byte("some bytes")
	g := fixed{cas.SHA256.Sum(data), data}
	ctx := t.Context()
	if got, err := cas.ReadAll(ctx, g, g.d, 10); err != nil || !bytes.Equal(got, data) {
		t.Errorf("got %q, %v", got, err)
	}
	if _, err := cas.ReadAll(ctx, g, g.d, 9); !errors.Is(err, cas.ErrTooLarge) {
		t.Errorf("over the limit: got %v, want ErrTooLarge", err)
	}
	if _, err := cas.ReadAll(ctx, g, cas.SHA1.Sum(data), 10); !errors.Is(err, cas.ErrNotFound) {
		t.Errorf("absent: got %v, want ErrNotFound", err)
	}
	// REAPI B11, B13: no store is asked for the empty blob.
	if got, err := cas.ReadAll(ctx, g, cas.SHA256.Empty(), 0); err != nil || got == nil || len(got) != 0 {
		t.Errorf("empty blob: got %v, %v", got, err)
	}
	for _, short := range [][]byte{data[:3], nil} {
		g.data = short
		if _, err := cas.ReadAll(ctx, g, g.d, 10); !errors.Is(err, io.ErrUnexpectedEOF) {
			t.Errorf("reader of %d bytes: got %v, want ErrUnexpectedEOF", len(short), err)
		}
	}
}

type readerFunc func(p []byte) (int, error)

func (f readerFunc) Read(p []byte) (int, error) { return f(p) }

// What is kept keeps little else, and is not copied without need.
func TestOwned(t *testing.T) {
	for what, test := range map[string]struct {
		whole int64
		copy  bool
	}{
		"all there is": {}, "most of it": {whole: 20}, "a small part": {whole: 21, copy: true},
	} {
		data := []byte("some bytes")
		c, err := cas.Verify(cas.SHA256.Sum(data), data)
		if err != nil {
			t.Fatal(err)
		}
		c.PartOf(test.whole)
		got, err := c.Owned()
		if err != nil || !bytes.Equal(got, data) || (&got[0] != &data[0]) != test.copy || c.Whole() != test.whole {
			t.Errorf("%s: %q of %d, %v, want a copy: %t", what, got, c.Whole(), err, test.copy)
		}
	}
	if _, err := cas.NewContent(cas.SHA256.Sum([]byte("x")), bytes.NewReader(nil)).Owned(); !errors.Is(err, cas.ErrMismatch) {
		t.Errorf("an empty reader: %v", err)
	}
}

// REAPI 0.1, 0.3, C11.
func TestVerify(t *testing.T) {
	data := []byte("some bytes")
	for _, f := range cas.Functions() {
		for name, consume := range consumers {
			c, err := cas.Verify(f.Sum(data), data)
			if err != nil {
				t.Fatal(f, err)
			}
			if got, err := consume(c); err != nil || !bytes.Equal(got, data) || c.Digest() != f.Sum(data) {
				t.Errorf("%v %s: %q, %v", f, name, got, err)
			}
		}
		longer, err := cas.ParseDigest(f, f.Sum(data).Hash(), 11)
		if err != nil {
			t.Fatal(err)
		}
		for what, d := range map[string]cas.Digest{"other bytes": f.Sum([]byte("some BYTES")), "fewer bytes": longer, "no bytes": f.Empty()} {
			if _, err := cas.Verify(d, data); !errors.Is(err, cas.ErrMismatch) {
				t.Errorf("%v, the digest of %s: %v", f, what, err)
			}
		}
	}
}
