package reapi

import (
	"strings"
	"unicode/utf8"
	"unsafe"

	repb "github.com/bazelbuild/remote-apis/build/bazel/remote/execution/v2"
	"google.golang.org/grpc/mem"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
)

// The fields of BatchUpdateBlobsRequest, its Request and Digest.
const (
	fieldInstance = protowire.Number(1)
	fieldRequests = protowire.Number(2)
	fieldFunction = protowire.Number(5)

	fieldDigest     = protowire.Number(1)
	fieldBlob       = protowire.Number(2)
	fieldCompressor = protowire.Number(3)

	fieldHash = protowire.Number(1)
	fieldSize = protowire.Number(2)
)

// updateMessage decodes a BatchUpdateBlobsRequest as the library does, but for where things
// are in memory: all entries in one piece, and the data of all blobs in another one, which
// lives as long as one of them. The library makes four pieces for each blob, and to hand
// these out and collect them again takes longer than to receive the blob.
type updateMessage struct {
	entries []updateEntry
	list    []*repb.BatchUpdateBlobsRequest_Request
}

type updateEntry struct {
	request repb.BatchUpdateBlobsRequest_Request
	digest  repb.Digest
}

// decodeUpdate reads a message. What is not as clients encode it is left to the library.
func decodeUpdate(data mem.BufferSlice, req *repb.BatchUpdateBlobsRequest) error {
	var text strings.Builder // makes memory that is not cleared first
	text.Grow(data.Len())
	for _, b := range data {
		text.Write(b.ReadOnlyData())
	}
	own := unsafe.Slice(unsafe.StringData(text.String()), text.Len()) // nobody changes what came
	proto.Reset(req)
	var m updateMessage
	if m.decode(own, req) && int64(len(own)) <= updateBytes(req) {
		return nil
	}
	return proto.Unmarshal(own, req)
}

const (
	// minEntry is how long an entry is at least that has a digest: what comes with
	// shorter ones would take many times its size in memory.
	minEntry = 32
	// maxEntry is how long what is around an entry's data is at most.
	maxEntry = 192
)

// updateBytes is at most how many bytes stay in memory as long as the data of one entry.
func updateBytes(req *repb.BatchUpdateBlobsRequest) int64 {
	n := int64(maxEntry)
	for _, r := range req.GetRequests() {
		n += maxEntry + int64(len(r.GetData()))
	}
	return n
}

// room makes room for all entries of a message.
func (m *updateMessage) room(b []byte) bool {
	n := 0
	for len(b) > 0 {
		number, kind, size := protowire.ConsumeTag(b)
		if size < 0 {
			return false
		}
		b = b[size:]
		size = protowire.ConsumeFieldValue(number, kind, b)
		if size < 0 {
			return false
		}
		if number == fieldRequests {
			if n++; size < minEntry {
				return false
			}
		}
		b = b[size:]
	}
	m.entries, m.list = make([]updateEntry, n), make([]*repb.BatchUpdateBlobsRequest_Request, 0, n)
	return true
}

// decode reports whether the message is a usual one.
func (m *updateMessage) decode(b []byte, req *repb.BatchUpdateBlobsRequest) bool {
	ok := m.room(b) && eachField(b, func(f field) bool {
		switch {
		case f.is(fieldInstance, protowire.BytesType):
			return f.text(&req.InstanceName)
		case f.is(fieldRequests, protowire.BytesType):
			e := &m.entries[len(m.list)]
			m.list = append(m.list, &e.request)
			return e.decode(f.data)
		case f.is(fieldFunction, protowire.VarintType):
			req.DigestFunction = repb.DigestFunction_Value(f.value)
			return true
		}
		return false
	})
	req.Requests = m.list
	return ok
}

func (e *updateEntry) decode(b []byte) bool {
	return eachField(b, func(f field) bool {
		switch {
		case f.is(fieldDigest, protowire.BytesType) && e.request.Digest == nil:
			e.request.Digest = &e.digest
			return e.decodeDigest(f.data)
		case f.is(fieldBlob, protowire.BytesType):
			e.request.Data = f.data[:len(f.data):len(f.data)]
			return true
		case f.is(fieldCompressor, protowire.VarintType):
			e.request.Compressor = repb.Compressor_Value(f.value)
			return true
		}
		return false
	})
}

func (e *updateEntry) decodeDigest(b []byte) bool {
	return eachField(b, func(f field) bool {
		switch {
		case f.is(fieldHash, protowire.BytesType):
			return f.text(&e.digest.Hash)
		case f.is(fieldSize, protowire.VarintType):
			e.digest.SizeBytes = int64(f.value)
			return true
		}
		return false
	})
}

// field is one of a message: a number or some bytes.
type field struct {
	number protowire.Number
	kind   protowire.Type
	value  uint64
	data   []byte
}

func (f *field) is(number protowire.Number, kind protowire.Type) bool {
	return f.number == number && f.kind == kind
}

// text sets a string, in memory of its own.
func (f *field) text(s *string) bool {
	*s = string(f.data)
	return utf8.Valid(f.data)
}

// eachField calls do for the fields of a message until one call is false. It reports
// whether all were true, and nothing was wrong with the message.
func eachField(b []byte, do func(field) bool) bool {
	for len(b) > 0 {
		var f field
		var size int
		if f.number, f.kind, size = protowire.ConsumeTag(b); size < 0 {
			return false
		}
		b = b[size:]
		switch f.kind {
		case protowire.VarintType:
			f.value, size = protowire.ConsumeVarint(b)
		case protowire.BytesType:
			f.data, size = protowire.ConsumeBytes(b)
		default:
			return false
		}
		if size < 0 || !do(f) {
			return false
		}
		b = b[size:]
	}
	return true
}
