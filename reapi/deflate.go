package reapi

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"sync"

	"github.com/klauspost/compress/flate"
)

// deflateCodec is DEFLATE: one stream of RFC 1951, without any header around it.
type deflateCodec struct {
	encoders sync.Pool // of *flate.Writer
	decoders sync.Pool // of *deflateReader
}

var _ codec = (*deflateCodec)(nil)

func newDeflateCodec() *deflateCodec {
	c := &deflateCodec{}
	c.encoders.New = func() any {
		w, err := flate.NewWriter(nil, flate.BestSpeed)
		if err != nil {
			panic(fmt.Sprintf("reapi: flate refuses a constant level: %v", err))
		}
		return w
	}
	c.decoders.New = func() any {
		in := bufio.NewReader(nil)
		return &deflateReader{codec: c, in: in, decoder: flate.NewReader(in)}
	}
	return c
}

func (c *deflateCodec) encode(dst io.Writer, src io.Reader, size int64) error {
	w := c.encoders.Get().(*flate.Writer)
	defer func() {
		w.Reset(nil) // let go of dst
		c.encoders.Put(w)
	}()
	w.Reset(dst)
	if err := copyExactly(w, src, size); err != nil {
		return err
	}
	return w.Close()
}

func (c *deflateCodec) decode(src io.Reader) io.ReadCloser {
	r := c.decoders.Get().(*deflateReader)
	r.reset(src)
	return r
}

func (c *deflateCodec) decodeAll(data []byte, size int64) ([]byte, error) {
	r := c.decode(bytes.NewReader(data))
	defer r.Close()
	out := make([]byte, size+1) // one more, to see that there is no more
	n, err := io.ReadFull(r, out)
	switch {
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return out[:n], nil // r gives neither of them for data that are cut off
	case err != nil:
		return nil, err
	default:
		return nil, notCompressed("deflate", fmt.Errorf("they give more than %d bytes", size))
	}
}

// deflateReader is a stream being decompressed. The decoder takes single bytes
// from in, so that what follows the stream is still there afterwards.
type deflateReader struct {
	codec   *deflateCodec
	origin  origin
	in      *bufio.Reader
	decoder io.ReadCloser
}

func (r *deflateReader) reset(src io.Reader) {
	r.origin = origin{r: src}
	r.in.Reset(&r.origin)
	if err := r.decoder.(flate.Resetter).Reset(r.in, nil); err != nil {
		panic(fmt.Sprintf("reapi: flate decoder of the pool: %v", err)) // it never fails
	}
}

// Read implements io.Reader.
func (r *deflateReader) Read(p []byte) (int, error) {
	n, err := r.decoder.Read(p)
	if errors.Is(err, io.EOF) {
		if _, err = r.in.ReadByte(); err == nil {
			err = errors.New("something follows their end")
		}
	}
	return n, r.origin.explain("deflate", err)
}

// Close implements io.Closer.
func (r *deflateReader) Close() error {
	r.reset(bytes.NewReader(nil)) // let go of src
	r.codec.decoders.Put(r)
	return nil
}
