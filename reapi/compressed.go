package reapi

import (
	"bytes"
	"context"
	"fmt"
	"io"

	repb "github.com/bazelbuild/remote-apis/build/bazel/remote/execution/v2"
	"google.golang.org/grpc/mem"

	"github.com/hearth-build/hearth/cas"
)

// sendCompressed sends the next size bytes of a blob as a compressed stream.
func (s *byteStreamServer) sendCompressed(stream messageSender, compressor repb.Compressor_Value, blob io.Reader, size int64) error {
	c, err := s.codecs.find(compressor)
	if err != nil {
		return err
	}
	out := &chunkSender{stream: stream, chunks: &s.chunks}
	defer out.discard()
	if err := c.encode(out, blob, size); err != nil {
		return err
	}
	return out.flush()
}

// messageSender is the sending side of a Read stream.
type messageSender interface{ SendMsg(m any) error }

// chunkSender makes messages of one chunk each out of smaller writes.
type chunkSender struct {
	stream messageSender
	chunks *chunkPool
	chunk  *[]byte // nil, or what was not sent yet
}

// Write implements io.Writer.
func (s *chunkSender) Write(p []byte) (int, error) {
	written := len(p)
	for len(p) > 0 {
		if s.chunk == nil {
			s.chunk = s.chunks.Get(0)
		}
		n := min(len(p), chunkBytes-len(*s.chunk))
		*s.chunk, p = append(*s.chunk, p[:n]...), p[n:]
		if len(*s.chunk) < chunkBytes {
			continue
		}
		if err := s.flush(); err != nil {
			return 0, err
		}
	}
	return written, nil
}

func (s *chunkSender) flush() error {
	if s.chunk == nil {
		return nil
	}
	data := mem.NewBuffer(s.chunk, s.chunks)
	s.chunk = nil
	return s.stream.SendMsg(&readMessage{data})
}

// discard gives up what was not sent.
func (s *chunkSender) discard() {
	if s.chunk != nil {
		s.chunks.Put(s.chunk)
	}
}

// wholeBytes is the size up to which a compressed blob is collected before it is
// decompressed at once, which takes less memory than the window that a
// decompressor of streams keeps, most often 2 MiB and more.
const wholeBytes = 1 << 20

// putCompressed stores an upload that comes compressed. It returns the number
// of compressed bytes, or -1 if the store did not want all of them.
func (s *byteStreamServer) putCompressed(ctx context.Context, store cas.Putter, name resource, in *incoming) (int64, error) {
	if in.start() != 0 {
		return 0, fmt.Errorf("%w: write_offset %d: compressed uploads start at 0, as QueryWriteStatus says", errInvalid, in.start())
	}
	c, err := s.codecs.find(name.compressor)
	if err != nil {
		return 0, err
	}
	s.uploads.yield(name)
	packed := &packedReader{r: in, left: maxPacked(name.digest.Size())}
	if name.digest.Size() <= wholeBytes {
		err = putPacked(ctx, store, name.digest, c, packed)
	} else {
		plain := c.decode(packed)
		defer plain.Close()
		err = store.Put(ctx, cas.NewContent(name.digest, plain))
	}
	switch {
	case err != nil:
		return 0, err
	case in.finished && in.data.size() == 0:
		return in.offset, nil
	default: // another client was quicker
		return -1, nil
	}
}

// putPacked stores a small blob.
func putPacked(ctx context.Context, store cas.Putter, d cas.Digest, c codec, packed io.Reader) error {
	var buf bytes.Buffer
	if _, err := buf.ReadFrom(packed); err != nil {
		return err
	}
	content, err := unpack(c, d, buf.Bytes())
	if err != nil {
		return err
	}
	return store.Put(ctx, content)
}

// unpack decompresses a small blob that must be d.
func unpack(c codec, d cas.Digest, packed []byte) (*cas.Content, error) {
	plain, err := c.decodeAll(packed, d.Size())
	if err != nil {
		return nil, err
	}
	return cas.Verify(d, plain)
}

// maxPacked is how many bytes a blob may have when compressed. No compressor
// comes near it unless it is told to waste bytes.
func maxPacked(size int64) int64 {
	const slack = 1 << 20
	return slack + 2*min(size, 1<<61)
}

// packedReader refuses compressed data without end: some of them, like empty
// frames, give no byte that could be one too many.
type packedReader struct {
	r    io.Reader
	left int64
}

// Read implements io.Reader.
func (p *packedReader) Read(b []byte) (int, error) {
	n, err := p.r.Read(b)
	if p.left -= int64(n); p.left < 0 {
		return 0, fmt.Errorf("%w: the blob has far more bytes compressed than it has itself", errInvalid)
	}
	return n, err
}
