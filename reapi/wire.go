package reapi

import (
	"encoding/binary"
	"errors"
	"io"
	"sync"
	"unicode/utf8"

	repb "github.com/bazelbuild/remote-apis/build/bazel/remote/execution/v2"
	"google.golang.org/genproto/googleapis/bytestream"
	"google.golang.org/grpc/encoding"
	encodingproto "google.golang.org/grpc/encoding/proto"
	"google.golang.org/grpc/mem"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
)

// wireCodec is gRPC's own codec but for the messages that carry pieces of blobs, or
// many blobs: to encode or decode these would copy each byte once or twice more, and
// fill the heap with garbage.
type wireCodec struct{ encoding.CodecV2 }

func newWireCodec() wireCodec { return wireCodec{encoding.GetCodecV2(encodingproto.Name)} }

// Marshal implements encoding.CodecV2.
func (c wireCodec) Marshal(v any) (mem.BufferSlice, error) {
	if m, ok := v.(*readMessage); ok {
		return m.encode(), nil
	}
	return c.CodecV2.Marshal(v)
}

// Unmarshal implements encoding.CodecV2.
func (c wireCodec) Unmarshal(data mem.BufferSlice, v any) error {
	switch m := v.(type) {
	case *writeMessage:
		return m.decode(data)
	case *repb.BatchUpdateBlobsRequest:
		return decodeUpdate(data, m)
	}
	return c.CodecV2.Unmarshal(data, v)
}

// The fields of WriteRequest and ReadResponse.
const (
	fieldName   = protowire.Number(1)
	fieldOffset = protowire.Number(2)
	fieldFinish = protowire.Number(3)
	fieldData   = protowire.Number(10) // of both
)

// readMessage is a bytestream.ReadResponse whose data are not copied.
type readMessage struct{ data mem.Buffer }

func (m *readMessage) encode() mem.BufferSlice {
	head := protowire.AppendTag(make([]byte, 0, 1+binary.MaxVarintLen32), fieldData, protowire.BytesType)
	head = protowire.AppendVarint(head, uint64(m.data.Len()))
	return mem.BufferSlice{mem.SliceBuffer(head), m.data}
}

// writeMessage is a bytestream.WriteRequest whose data stay in the buffers in
// which they were received.
type writeMessage struct {
	name   string
	offset int64
	finish bool
	data   payload
}

// payload is the end of a received message. It is read once.
type payload struct{ r *mem.Reader }

func (p payload) size() int {
	if p.r == nil {
		return 0
	}
	return p.r.Remaining()
}

// read returns 0 at the end.
func (p payload) read(b []byte) int {
	if p.r == nil {
		return 0
	}
	n, _ := p.r.Read(b) // which fails at the end alone
	return n
}

// skip passes over bytes that are there.
func (p payload) skip(n int) {
	if n > 0 {
		_, _ = p.r.Discard(n)
	}
}

// decode reads a message. Clients write its fields in the order of their
// numbers; what is otherwise in any way is left to the library.
func (m *writeMessage) decode(data mem.BufferSlice) error {
	r := data.Reader()
	if m.decodeUsual(r) == nil {
		m.data = payload{r}
		return nil
	}
	_ = r.Close() // it never fails
	return m.decodeAny(data)
}

func (m *writeMessage) decodeAny(data mem.BufferSlice) error {
	var req bytestream.WriteRequest
	if err := proto.Unmarshal(data.Materialize(), &req); err != nil {
		return err
	}
	m.name, m.offset, m.finish = req.GetResourceName(), req.GetWriteOffset(), req.GetFinishWrite()
	m.data = payload{mem.BufferSlice{mem.SliceBuffer(req.GetData())}.Reader()}
	return nil
}

var errUnusual = errors.New("not how clients encode it")

// decodeUsual leaves the reader where the data are, which are the rest.
func (m *writeMessage) decodeUsual(r *mem.Reader) error {
	for r.Remaining() > 0 {
		tag, err := binary.ReadUvarint(r)
		if err != nil {
			return err
		}
		value, err := binary.ReadUvarint(r) // or the length
		if err != nil {
			return err
		}
		switch tag {
		case protowire.EncodeTag(fieldName, protowire.BytesType):
			err = m.decodeName(r, value)
		case protowire.EncodeTag(fieldOffset, protowire.VarintType):
			m.offset = int64(value)
		case protowire.EncodeTag(fieldFinish, protowire.VarintType):
			m.finish = value != 0
		case protowire.EncodeTag(fieldData, protowire.BytesType):
			if value == uint64(r.Remaining()) {
				return nil
			}
			err = errUnusual
		default:
			err = errUnusual
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func (m *writeMessage) decodeName(r *mem.Reader, size uint64) error {
	if size > uint64(r.Remaining()) {
		return errUnusual
	}
	name := make([]byte, size)
	if _, err := io.ReadFull(r, name); err != nil {
		return err
	}
	if !utf8.Valid(name) {
		return errUnusual
	}
	m.name = string(name)
	return nil
}

// chunkBytes is how much of a blob one message carries: large enough that the
// message costs little, far below the 4 MiB that clients are ready to receive.
const chunkBytes = 512 << 10

// chunkPool lends the memory for pieces of blobs on their way out, which gRPC
// gives back when they are sent.
type chunkPool struct{ chunks sync.Pool } // of *[]byte with room for chunkBytes

var _ mem.BufferPool = (*chunkPool)(nil)

// Get implements mem.BufferPool for at most chunkBytes.
func (p *chunkPool) Get(size int) *[]byte {
	chunk, ok := p.chunks.Get().(*[]byte)
	if !ok {
		b := make([]byte, chunkBytes)
		chunk = &b
	}
	*chunk = (*chunk)[:size]
	return chunk
}

// Put implements mem.BufferPool.
func (p *chunkPool) Put(chunk *[]byte) { p.chunks.Put(chunk) }
