package reapi

import (
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	repb "github.com/bazelbuild/remote-apis/build/bazel/remote/execution/v2"
)

// codec is one compressor of the API, in both directions. It is safe for
// concurrent use.
type codec interface {
	// encode writes the next size bytes of src to dst, as one compressed stream.
	encode(dst io.Writer, src io.Reader, size int64) error
	// decode returns a reader of what src is decompressed, in bounded memory.
	// It gives io.EOF where src ends, if the compressed stream ends there as
	// well. Data that are no such stream are errInvalid; an error of src stays
	// what it is. The caller closes the reader.
	decode(src io.Reader) io.ReadCloser
	// decodeAll decompresses data, if that gives at most size bytes.
	decodeAll(data []byte, size int64) ([]byte, error)
}

// compressors lists what is served besides IDENTITY, the one to prefer first.
func compressors() []repb.Compressor_Value {
	return []repb.Compressor_Value{repb.Compressor_ZSTD, repb.Compressor_DEFLATE}
}

// compressorNamed finds a compressor by its segment in a resource name.
func compressorNamed(segment string) (repb.Compressor_Value, error) {
	var names []string
	for _, c := range compressors() {
		name := strings.ToLower(c.String())
		if name == segment {
			return c, nil
		}
		names = append(names, name)
	}
	return 0, fmt.Errorf("%w: compressor %q is not served here, only %s", errInvalid, clip(segment), strings.Join(names, " and "))
}

// codecs are the codecs of compressors().
type codecs struct{ zstd, deflate codec }

func newCodecs() *codecs { return &codecs{zstd: newZstdCodec(), deflate: newDeflateCodec()} }

// find returns the codec of a compressor other than IDENTITY.
func (c *codecs) find(compressor repb.Compressor_Value) (codec, error) {
	switch compressor {
	case repb.Compressor_ZSTD:
		return c.zstd, nil
	case repb.Compressor_DEFLATE:
		return c.deflate, nil
	default:
		return nil, fmt.Errorf("%w: compressor %v is not announced", errInvalid, compressor)
	}
}

// choose returns the best compressor of those that a client accepts: IDENTITY
// if it accepts none of ours.
func choose(acceptable []repb.Compressor_Value) repb.Compressor_Value {
	for _, c := range compressors() {
		if slices.Contains(acceptable, c) {
			return c
		}
	}
	return repb.Compressor_IDENTITY
}

// origin is what a decoder reads. It remembers an error, which decoders hide
// behind errors of their own.
type origin struct {
	r   io.Reader
	err error
}

// Read implements io.Reader.
func (o *origin) Read(p []byte) (int, error) {
	n, err := o.r.Read(p)
	if err != nil && !errors.Is(err, io.EOF) {
		o.err = err
	}
	return n, err
}

// explain turns the error of a decoder that reads o into the one to report.
func (o *origin) explain(format string, err error) error {
	switch {
	case o.err != nil:
		return o.err
	case err == nil || errors.Is(err, io.EOF):
		return err
	default:
		return notCompressed(format, err)
	}
}

func notCompressed(format string, err error) error {
	return fmt.Errorf("%w: the bytes sent are no %s data that can be taken: %v", errInvalid, format, err) //nolint:errorlint // not for errors.Is: it may be io.ErrUnexpectedEOF
}

// copyExactly copies size bytes; fewer are an error.
func copyExactly(dst io.Writer, src io.Reader, size int64) error {
	n, err := io.CopyN(dst, src, size)
	if errors.Is(err, io.EOF) {
		err = fmt.Errorf("the blob ended %d bytes early: %w", size-n, io.ErrUnexpectedEOF)
	}
	return err
}
