package remote

import (
	"context"
	"errors"
	"fmt"
	"io"

	"google.golang.org/genproto/googleapis/bytestream"

	"github.com/hearth-build/hearth/cas"
)

// reader reads the rest of a blob by as many streams as it takes. It has the
// context of its Get, since it makes calls whenever a stream breaks.
type reader struct {
	store  *Store
	ctx    context.Context
	digest cas.Digest
	offset int64 // of the next byte
	packed bool  // the next stream comes compressed
	tries  *attempts
	stream io.ReadCloser // nil after a break
	err    error         // the end of it all
}

// connect opens a stream that goes on at the offset. After a break it is not
// compressed: of servers that serve compressed blobs some get offsets wrong.
func (r *reader) connect() error {
	for {
		stream, err := r.store.openStream(r.ctx, r.digest, r.offset, r.packed)
		if err == nil {
			r.stream = stream
			return nil
		}
		r.packed = false
		if err := r.tries.again(r.ctx, err); err != nil {
			return err
		}
	}
}

// Read implements io.Reader.
func (r *reader) Read(p []byte) (int, error) {
	for r.err == nil {
		n, err := r.read(p)
		if n > 0 {
			r.tries.progress()
			return n, nil
		}
		switch {
		case err == nil:
			return 0, nil // p is empty
		case errors.Is(err, io.EOF):
			r.err = io.EOF
		default:
			r.err = explain(r.ctx, fmt.Sprintf("read blob %v from byte %d on", r.digest, r.offset), absent(r.digest), err)
		}
	}
	return 0, r.err
}

// read reads from a stream, a new one if need be. When a stream breaks it gives
// no byte and the reason why no other one can go on, if there is one.
func (r *reader) read(p []byte) (int, error) {
	for {
		if r.stream == nil {
			if err := r.connect(); err != nil {
				return 0, err
			}
		}
		n, err := r.stream.Read(p)
		r.offset += int64(n)
		switch {
		case r.offset > r.digest.Size():
			return 0, fmt.Errorf("%w: the remote store sent more than the %d bytes of the blob", cas.ErrUnavailable, r.digest.Size())
		case n > 0 || err == nil:
			return n, nil // an error comes again
		case err == io.EOF && r.offset == r.digest.Size():
			return 0, io.EOF
		case err == io.EOF:
			err = errShort
		}
		closeErr := r.stream.Close()
		r.stream, r.packed = nil, false
		if err := r.tries.again(r.ctx, err); err != nil {
			return 0, errors.Join(err, closeErr)
		}
	}
}

// Close implements io.Closer.
func (r *reader) Close() error {
	r.err = errors.New("the blob was closed")
	if r.stream == nil {
		return nil
	}
	err := r.stream.Close()
	r.stream = nil
	return err
}

// openStream opens one stream of a blob's bytes from offset on. It has its first
// message when it returns, so an absent blob shows here.
func (s *Store) openStream(ctx context.Context, d cas.Digest, offset int64, packed bool) (io.ReadCloser, error) {
	name := s.instancePrefix() + "blobs/" + d.Name()
	if packed {
		name = s.instancePrefix() + "compressed-blobs/zstd/" + d.Name()
	}
	ctx, cancel := context.WithCancelCause(ctx)
	m := &messages{ctx: ctx, cancel: cancel, watch: newWatch(s.options.StallTimeout, cancel)}
	err := m.watch.step(ctx, func() (err error) {
		m.stream, err = s.streams.Read(ctx, &bytestream.ReadRequest{ResourceName: name, ReadOffset: offset})
		return err
	})
	if err == nil {
		err = m.next()
	}
	if err != nil && err != io.EOF {
		cancel(nil)
		return nil, err
	}
	m.err = err
	if packed {
		return s.zstd.decode(m)
	}
	return m, nil
}

// messages is the bytes of a stream's messages.
type messages struct {
	ctx    context.Context
	cancel context.CancelCauseFunc
	watch  *watch
	stream bytestream.ByteStream_ReadClient
	data   []byte // of the last message, not yet read
	err    error
}

// next waits for a message with bytes.
func (m *messages) next() error {
	for {
		var resp *bytestream.ReadResponse
		err := m.watch.step(m.ctx, func() (err error) {
			resp, err = m.stream.Recv()
			return err
		})
		if err != nil {
			return err
		}
		if m.data = resp.GetData(); len(m.data) > 0 {
			return nil
		}
	}
}

// Read implements io.Reader.
func (m *messages) Read(p []byte) (int, error) {
	if len(m.data) == 0 && m.err == nil {
		m.err = m.next()
	}
	if m.err != nil {
		return 0, m.err
	}
	n := copy(p, m.data)
	m.data = m.data[n:]
	return n, nil
}

// Close implements io.Closer: the server need not send the rest.
func (m *messages) Close() error {
	m.cancel(nil)
	return nil
}
