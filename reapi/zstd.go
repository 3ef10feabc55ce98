package reapi

import (
	"fmt"
	"io"
	"sync"

	"github.com/klauspost/compress/zstd"
)

const (
	// maxWindow bounds the memory of a decoder. The format recommends to support
	// at least 8 MiB; compressors go beyond 32 MiB only when told to.
	maxWindow = 32 << 20
	// sendWindow is how far back our own streams refer, which costs memory on
	// both sides.
	sendWindow = 1 << 20
)

// zstdCodec is ZSTD: any number of frames, with or without content sizes.
// Encoders and decoders start no goroutines and are used again.
type zstdCodec struct {
	encoders sync.Pool // of *zstd.Encoder
	decoders sync.Pool // of *zstd.Decoder
}

var _ codec = (*zstdCodec)(nil)

func newZstdCodec() *zstdCodec {
	return &zstdCodec{
		encoders: sync.Pool{New: func() any { return newZstdEncoder() }},
		decoders: sync.Pool{New: func() any { return newZstdDecoder() }},
	}
}

// newZstdEncoder makes an encoder for speed: blobs cross fast networks, too.
// A checksum would protect what the digest protects.
func newZstdEncoder() *zstd.Encoder {
	e, err := zstd.NewWriter(nil,
		zstd.WithEncoderLevel(zstd.SpeedFastest), zstd.WithEncoderConcurrency(1), zstd.WithWindowSize(sendWindow),
		zstd.WithLowerEncoderMem(true), zstd.WithEncoderCRC(false), zstd.WithZeroFrames(true))
	if err != nil {
		panic(fmt.Sprintf("reapi: zstd refuses constant options: %v", err))
	}
	return e
}

func newZstdDecoder() *zstd.Decoder {
	d, err := zstd.NewReader(nil, zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true),
		zstd.WithDecoderMaxWindow(maxWindow), zstd.WithDecodeAllCapLimit(true))
	if err != nil {
		panic(fmt.Sprintf("reapi: zstd refuses constant options: %v", err))
	}
	return d
}

func (z *zstdCodec) encode(dst io.Writer, src io.Reader, size int64) error {
	e := z.encoders.Get().(*zstd.Encoder)
	defer func() {
		e.Reset(nil) // let go of dst
		z.encoders.Put(e)
	}()
	e.ResetContentSize(dst, size)
	if err := copyExactly(e, src, size); err != nil {
		return err
	}
	return e.Close()
}

func (z *zstdCodec) decode(src io.Reader) io.ReadCloser {
	r := &zstdReader{codec: z, origin: origin{r: src}, decoder: z.decoders.Get().(*zstd.Decoder)}
	if err := r.decoder.Reset(&r.origin); err != nil {
		panic(fmt.Sprintf("reapi: zstd decoder of the pool: %v", err)) // it fails for closed ones only
	}
	return r
}

func (z *zstdCodec) decodeAll(data []byte, size int64) ([]byte, error) {
	d := z.decoders.Get().(*zstd.Decoder)
	defer z.decoders.Put(d)
	out, err := d.DecodeAll(data, make([]byte, 0, size))
	if err != nil {
		return nil, notCompressed("zstd", err)
	}
	return out, nil
}

// zstdReader is a stream being decompressed.
type zstdReader struct {
	codec   *zstdCodec
	origin  origin
	decoder *zstd.Decoder
}

// Read implements io.Reader.
func (r *zstdReader) Read(p []byte) (int, error) {
	n, err := r.decoder.Read(p)
	return n, r.origin.explain("zstd", err)
}

// Close implements io.Closer.
func (r *zstdReader) Close() error {
	if err := r.decoder.Reset(nil); err != nil { // let go of src
		return err
	}
	r.codec.decoders.Put(r.decoder)
	return nil
}
