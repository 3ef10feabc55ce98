package remote

import (
	"errors"
	"fmt"
	"io"
	"sync"

	"github.com/klauspost/compress/zstd"
)

const (
	// maxWindow bounds the memory of a decoder.
	maxWindow = 64 << 20
	// sendWindow is how far back our own streams refer.
	sendWindow = 1 << 20
	// minPacked is the size from which blobs in batches gain from compression.
	minPacked = 512
)

// zstdCodec has encoders and decoders that are used again. They start no
// goroutines.
type zstdCodec struct{ encoders, decoders sync.Pool }

func newZstdCodec() *zstdCodec {
	return &zstdCodec{
		encoders: sync.Pool{New: func() any {
			// A checksum would protect what the digest protects.
			e, err := zstd.NewWriter(nil, zstd.WithEncoderLevel(zstd.SpeedFastest), zstd.WithEncoderConcurrency(1),
				zstd.WithWindowSize(sendWindow), zstd.WithLowerEncoderMem(true), zstd.WithEncoderCRC(false), zstd.WithZeroFrames(true))
			if err != nil {
				panic(fmt.Sprintf("remote: zstd refuses constant options: %v", err))
			}
			return e
		}},
		decoders: sync.Pool{New: func() any {
			d, err := zstd.NewReader(nil, zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true),
				zstd.WithDecoderMaxWindow(maxWindow), zstd.WithDecodeAllCapLimit(true))
			if err != nil {
				panic(fmt.Sprintf("remote: zstd refuses constant options: %v", err))
			}
			return d
		}},
	}
}

// encode writes what src has to its end to dst, as one stream.
func (z *zstdCodec) encode(dst io.Writer, src io.Reader, size int64) error {
	e := z.encoders.Get().(*zstd.Encoder)
	defer func() {
		e.Reset(nil) // let go of dst
		z.encoders.Put(e)
	}()
	e.ResetContentSize(dst, size)
	if _, err := e.ReadFrom(src); err != nil {
		return err
	}
	return e.Close()
}

// pack compresses data, if that makes it smaller.
func (z *zstdCodec) pack(data []byte) (packed []byte, ok bool) {
	if len(data) < minPacked {
		return nil, false
	}
	e := z.encoders.Get().(*zstd.Encoder)
	defer z.encoders.Put(e)
	packed = e.EncodeAll(data, make([]byte, 0, len(data)))
	return packed, len(packed) < len(data)
}

// unpack decompresses data to at most size bytes.
func (z *zstdCodec) unpack(data []byte, size int64) ([]byte, error) {
	d := z.decoders.Get().(*zstd.Decoder)
	defer z.decoders.Put(d)
	plain, err := d.DecodeAll(data, make([]byte, 0, size))
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errGarbled, err)
	}
	return plain, nil
}

// decode returns a reader of what src is decompressed. An error of src stays what
// it is. Closing it closes src.
func (z *zstdCodec) decode(src io.ReadCloser) (io.ReadCloser, error) {
	r := &zstdReader{codec: z, src: src, origin: origin{r: src}, decoder: z.decoders.Get().(*zstd.Decoder)}
	if err := r.decoder.Reset(&r.origin); err != nil {
		return nil, errors.Join(err, src.Close())
	}
	return r, nil
}

type zstdReader struct {
	codec   *zstdCodec
	src     io.Closer
	origin  origin
	decoder *zstd.Decoder
}

// Read implements io.Reader.
func (r *zstdReader) Read(p []byte) (int, error) {
	n, err := r.decoder.Read(p)
	switch {
	case r.origin.err != nil:
		return n, r.origin.err
	case err != nil && err != io.EOF:
		return n, fmt.Errorf("%w: %w", errGarbled, err)
	default:
		return n, err
	}
}

// Close implements io.Closer.
func (r *zstdReader) Close() error {
	if err := r.decoder.Reset(nil); err != nil { // let go of src
		return errors.Join(err, r.src.Close())
	}
	r.codec.decoders.Put(r.decoder)
	return r.src.Close()
}

// origin is a reader that remembers its error, which coders hide behind their own.
type origin struct {
	r   io.Reader
	err error
}

// Read implements io.Reader.
func (o *origin) Read(p []byte) (int, error) {
	n, err := o.r.Read(p)
	if err != nil && err != io.EOF {
		o.err = err
	}
	return n, err
}
