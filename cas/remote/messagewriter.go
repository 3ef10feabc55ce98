package remote

import (
	"context"
	"errors"
	"io"

	"google.golang.org/genproto/googleapis/bytestream"
)

// messageWriter makes the messages of one Write stream.
type messageWriter struct {
	ctx    context.Context
	watch  *watch
	stream bytestream.ByteStream_WriteClient
	name   string // for the first message
	offset int64  // of the next message
	chunk  []byte
	ended  bool // the server has answered
}

var _ io.ReaderFrom = (*messageWriter)(nil)

// Write implements io.Writer.
func (w *messageWriter) Write(p []byte) (int, error) {
	written := len(p)
	for len(p) > 0 {
		n := min(len(p), cap(w.chunk)-len(w.chunk))
		w.chunk, p = append(w.chunk, p[:n]...), p[n:]
		if err := w.flushFull(); err != nil {
			return 0, err
		}
	}
	return written, nil
}

// ReadFrom implements io.ReaderFrom, without a copy in between.
func (w *messageWriter) ReadFrom(r io.Reader) (total int64, err error) {
	for {
		if err := context.Cause(w.ctx); err != nil {
			return total, err
		}
		n, err := r.Read(w.chunk[len(w.chunk):cap(w.chunk)])
		w.chunk = w.chunk[:len(w.chunk)+n]
		total += int64(n)
		if err != nil && !errors.Is(err, io.EOF) {
			return total, err
		}
		if err != nil {
			return total, nil
		}
		if err := w.flushFull(); err != nil {
			return total, err
		}
	}
}

func (w *messageWriter) flushFull() error {
	if len(w.chunk) < cap(w.chunk) {
		return nil
	}
	return w.send(false)
}

// finish sends what is left and says that it is the end.
func (w *messageWriter) finish() error {
	if err := context.Cause(w.ctx); err != nil {
		return err
	}
	return w.send(true)
}

func (w *messageWriter) send(last bool) error {
	req := &bytestream.WriteRequest{ResourceName: w.name, WriteOffset: w.offset, Data: w.chunk, FinishWrite: last}
	err := w.watch.step(w.ctx, func() error { return w.stream.Send(req) })
	// Send has encoded the message when it returns, so the chunk is free.
	w.name, w.offset, w.chunk = "", w.offset+int64(len(w.chunk)), w.chunk[:0]
	w.ended = errors.Is(err, io.EOF)
	return err
}
