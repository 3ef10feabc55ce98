package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"sync/atomic"

	"github.com/google/uuid"
	"github.com/klauspost/compress/zstd"
	"google.golang.org/genproto/googleapis/bytestream"

	"github.com/hearth-build/hearth/cas"
)

// streamBench is the rows of ByteStream with one kind of data.
type streamBench struct {
	bench  *benchCasCmd
	packed bool // sent as zstd
	half   bool // half compressible
}

// readBlobs is how many blobs are read in turns.
const readBlobs = 4

func (s streamBench) source() (*blobMaker, func() (freshBlob, error), error) {
	m, err := newBlobMaker(int64(s.bench.BlobSize), s.half)
	if err != nil || !s.packed {
		return m, m.next, err
	}
	m.pack()
	return m, m.nextPacked, nil
}

func (s streamBench) write(_ context.Context, t *casTarget) (casWork, error) {
	_, next, err := s.source()
	return casWork{call: func(ctx context.Context) error {
		b, err := next()
		if err != nil {
			return err
		}
		return s.writeBlob(ctx, t, b)
	}}, err
}

func (s streamBench) read(ctx context.Context, t *casTarget) (casWork, error) {
	maker, next, err := s.source()
	if err != nil {
		return casWork{}, err
	}
	var ds []cas.Digest
	for range readBlobs {
		b, err := next()
		if err == nil && !t.null {
			err = s.writeBlob(ctx, t, b)
		}
		if err != nil {
			return casWork{}, err
		}
		ds = append(ds, b.digest)
	}
	if !t.null {
		err = s.verify(ctx, t, maker, ds[0])
	}
	var calls atomic.Int64
	return casWork{call: func(ctx context.Context) error {
		d := ds[calls.Add(1)%readBlobs]
		n, err := s.readBlob(ctx, t, d, io.Discard)
		if err == nil && !s.packed && n != d.Size() {
			err = fmt.Errorf("%d bytes came of %v", n, d)
		}
		return err
	}}, err
}

// verify reads a blob and looks at each byte.
func (s streamBench) verify(ctx context.Context, t *casTarget, m *blobMaker, d cas.Digest) error {
	var got bytes.Buffer
	if _, err := s.readBlob(ctx, t, d, &got); err != nil {
		return err
	}
	data := got.Bytes()
	if s.packed {
		r, err := zstd.NewReader(nil, zstd.WithDecoderConcurrency(1))
		if err != nil {
			return err
		}
		defer r.Close()
		if data, err = r.DecodeAll(data, make([]byte, 0, d.Size())); err != nil {
			return err
		}
	}
	if cas.SHA256.Sum(data) != d || !bytes.HasPrefix(data, m.prefix) {
		return fmt.Errorf("the bytes that came for %v are others", d)
	}
	return nil
}

func (s streamBench) name(t *casTarget, d cas.Digest) string {
	name := "blobs/" + d.Name()
	if s.packed {
		name = "compressed-blobs/zstd/" + d.Name()
	}
	return name
}

// writeBlob uploads a blob as a client does that has it in memory.
func (s streamBench) writeBlob(ctx context.Context, t *casTarget, b freshBlob) error {
	stream, err := t.streams.Write(ctx)
	if err != nil {
		return err
	}
	name := t.prefix + "uploads/" + uuid.NewString() + "/" + s.name(t, b.digest)
	var offset int64
	send := func(data []byte, last bool) error {
		err := stream.Send(&bytestream.WriteRequest{ResourceName: name, WriteOffset: offset, Data: data, FinishWrite: last})
		name = ""
		offset += int64(len(data))
		return err
	}
	for rest := b.prefix; len(rest) > 0 && err == nil; {
		n := min(len(rest), int(s.bench.MessageSize))
		err = send(rest[:n], false)
		rest = rest[n:]
	}
	if err == nil {
		err = send(b.tail, true)
	}
	if err != nil && !errors.Is(err, io.EOF) { // what EOF means the answer says
		return err
	}
	resp, err := stream.CloseAndRecv()
	if err != nil {
		return err
	}
	if want := int64(len(b.prefix) + len(b.tail)); resp.GetCommittedSize() != want && (!s.packed || resp.GetCommittedSize() != -1) {
		return fmt.Errorf("the server took %d bytes of %d", resp.GetCommittedSize(), want)
	}
	return nil
}

// readBlob downloads a blob and returns how many bytes came.
func (s streamBench) readBlob(ctx context.Context, t *casTarget, d cas.Digest, to io.Writer) (n int64, err error) {
	stream, err := t.streams.Read(ctx, &bytestream.ReadRequest{ResourceName: t.prefix + s.name(t, d)})
	if err != nil {
		return 0, err
	}
	for {
		resp, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return n, nil
		}
		if err != nil {
			return n, err
		}
		n += int64(len(resp.GetData()))
		if _, err := to.Write(resp.GetData()); err != nil {
			return n, err
		}
	}
}
