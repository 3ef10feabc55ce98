package reapi

import (
	"bytes"
	"errors"
	"io"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/klauspost/compress/zstd"
	"google.golang.org/grpc/codes"

	"github.com/hearth-build/hearth/cas"
)

// canonical spells a resource as clients do.
func (r resource) canonical() string {
	var b strings.Builder
	if r.instance != "" {
		b.WriteString(r.instance + "/")
	}
	if r.upload != "" {
		b.WriteString("uploads/" + r.upload + "/")
	}
	if r.compressed() {
		b.WriteString("compressed-blobs/" + strings.ToLower(r.compressor.String()) + "/")
	} else {
		b.WriteString("blobs/")
	}
	return b.String() + r.digest.Name()
}

// REAPI 0.4, A26, D1-D7: any name is refused in order or means one thing.
func FuzzResourceName(f *testing.F) {
	for _, fn := range cas.Functions() {
		name := fn.Sum([]byte("x")).Name()
		for _, seed := range []string{
			"blobs/" + name, "a/b/c/blobs/" + name, "compressed-blobs/zstd/" + name, "main/compressed-blobs/deflate/" + name,
			"uploads/3f2504e0-4f89-41d3-9a0c-0305e82c3301/blobs/" + name, "i/uploads/u/compressed-blobs/zstd/" + name + "/blobs/uploads/x",
			"blobs/" + fn.String() + "/" + fn.Sum(nil).Name(), "compressed-blobs/identity/" + name, "/blobs/" + name, "uploads//blobs/" + name,
			strings.Repeat("\xff", 1000) + "//blobs/" + name, // which takes four times as much room when it is quoted
			"compressed-blobs/brotli/" + name, "blobs/" + name + "/x", "blobs/" + name + "0000000000000000000", "operations/blobs/" + name,
		} {
			f.Add(seed)
		}
	}
	for _, seed := range []string{"", "/", "blobs", "uploads", "uploads/u", "uploads/u/blobs", "compressed-blobs", "compressed-blobs/zstd", "uploads/u/compressed-blobs", "blobs//", "blobs/-/-1", "\x00/blobs/\xff/1"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, name string) {
		for _, parse := range []func(string) (resource, error){parseRead, parseWrite} {
			r, err := parse(name)
			if err != nil {
				if codeOf(err) != codes.InvalidArgument {
					t.Errorf("%q is refused with %v", name, err)
				}
				if len(err.Error()) > 2000 {
					t.Errorf("%d bytes of error for a name", len(err.Error()))
				}
				continue
			}
			if CheckInstanceName(r.instance) != nil || r.digest.IsZero() {
				t.Errorf("%q gives %+v", name, r)
			}
			if again, err := parse(r.canonical()); err != nil || again != r {
				t.Errorf("%q means %+v, but %q means %+v, %v", name, r, r.canonical(), again, err)
			}
		}
		if _, err := parseRead(name); err == nil {
			if _, err := parseWrite(name); err == nil {
				t.Errorf("%q can be read and written", name)
			}
		}
	})
}

// zstdSeeds are bodies of each kind.
func zstdSeeds(f *testing.F) [][]byte {
	f.Helper()
	text := bytes.Repeat([]byte("some text that compresses well, "), 500)
	var seeds [][]byte
	for _, options := range [][]zstd.EOption{
		nil,
		{zstd.WithZeroFrames(true)},
		{zstd.WithEncoderCRC(false), zstd.WithSingleSegment(true)},
		{zstd.WithEncoderLevel(zstd.SpeedBestCompression), zstd.WithWindowSize(1 << 10)},
	} {
		for _, data := range [][]byte{nil, []byte("x"), text, bytes.Repeat([]byte{0}, 300_000)} {
			e, err := zstd.NewWriter(nil, options...)
			if err != nil {
				f.Fatal(err)
			}
			packed := e.EncodeAll(data, nil)
			seeds = append(seeds, packed, append(bytes.Clone(packed), packed...), packed[:len(packed)/2], append(bytes.Clone(packed), "garbage"...))
		}
	}
	return append(seeds,
		[]byte{0x28, 0xb5, 0x2f, 0xfd, 0x00, 20 << 3, 0x09, 0x00, 0x00, 'x'},                                 // a window of 1 GiB
		[]byte{0x28, 0xb5, 0x2f, 0xfd, 0xe0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f, 1, 0, 0},        // a content of 2^63
		[]byte{0x50, 0x2a, 0x4d, 0x18, 3, 0, 0, 0, 'a', 'b', 'c'},                                            // a frame to skip
		[]byte{0x50, 0x2a, 0x4d, 0x18, 0xff, 0xff, 0xff, 0xff},                                               // one that is cut off
		[]byte{0x28, 0xb5, 0x2f, 0xfd, 0x20, 0x00, 0x03, 0xff, 0xff, 'x', 0x28, 0xb5, 0x2f, 0xfd, 0x23, 0x0}, // a run, a dictionary
	)
}

// REAPI D19, C12: any body is refused in order or means the same in every way of
// decompressing it, and never gives more than it may.
func FuzzZstdBody(f *testing.F) {
	for _, seed := range zstdSeeds(f) {
		f.Add(seed, int64(16_000))
	}
	c := newZstdCodec()
	f.Fuzz(func(t *testing.T, body []byte, size int64) { checkBody(t, c, body, size&(1<<20-1)) })
}

// The same of deflate, whose streams have no frames and no sizes.
func FuzzDeflateBody(f *testing.F) {
	c := newDeflateCodec()
	text := bytes.Repeat([]byte("some text that compresses well, "), 500)
	for _, data := range [][]byte{nil, []byte("x"), text, bytes.Repeat([]byte{0}, 300_000)} {
		var packed bytes.Buffer
		if err := c.encode(&packed, bytes.NewReader(data), int64(len(data))); err != nil {
			f.Fatal(err)
		}
		whole := packed.Bytes()
		for _, seed := range [][]byte{whole, whole[:len(whole)/2], append(bytes.Clone(whole), "garbage"...), append(bytes.Clone(whole), whole...)} {
			f.Add(seed, int64(len(data)))
		}
	}
	for _, seed := range []string{"\x01\x01\x00\xfe\xffx", "\x00\x00\x00\xff\xff", "\x07", "\xff\xff"} { // blocks as they are, and nonsense
		f.Add([]byte(seed), int64(1))
	}
	f.Fuzz(func(t *testing.T, body []byte, size int64) { checkBody(t, c, body, size&(1<<20-1)) })
}

// checkBody decompresses a body at once and as a stream.
func checkBody(t *testing.T, c codec, body []byte, size int64) {
	t.Helper()
	whole, wholeErr := c.decodeAll(body, size)
	if wholeErr != nil && !errors.Is(wholeErr, errInvalid) {
		t.Fatalf("refused with %v", wholeErr)
	}
	if int64(len(whole)) > size {
		t.Fatalf("%d bytes, at most %d are wanted", len(whole), size)
	}
	r := c.decode(iotest.HalfReader(bytes.NewReader(body)))
	defer r.Close()
	streamed, err := io.ReadAll(io.LimitReader(r, size+1))
	switch {
	case err != nil && !errors.Is(err, errInvalid):
		t.Fatalf("streamed: refused with %v", err)
	case wholeErr == nil && (err != nil || !bytes.Equal(whole, streamed)):
		t.Fatalf("at once %d bytes, streamed %d and %v", len(whole), len(streamed), err)
	case wholeErr != nil && err == nil && int64(len(streamed)) <= size:
		t.Fatalf("streamed %d bytes, at once %v", len(streamed), wholeErr)
	case wholeErr != nil:
		return
	}
	var packed bytes.Buffer
	if err := c.encode(&packed, bytes.NewReader(whole), int64(len(whole))); err != nil {
		t.Fatal(err)
	}
	if again, err := c.decodeAll(packed.Bytes(), size); err != nil || !bytes.Equal(again, whole) {
		t.Fatalf("compressed again: %d bytes, %v", len(again), err)
	}
}
