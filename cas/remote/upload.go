package remote

import (
	"context"
	"fmt"
	"io"

	"github.com/google/uuid"
	"google.golang.org/genproto/googleapis/bytestream"

	"github.com/hearth-build/hearth/cas"
)

// upload is a blob on its way to the server, by as many streams as it takes.
type upload struct {
	store  *Store
	digest cas.Digest
	open   func(ctx context.Context, offset int64) (io.ReadCloser, error)
	id     string
	packed bool
	begun  bool  // a stream broke off, so the server may have kept some
	offset int64 // where the next stream begins
	best   int64 // the largest offset so far
}

// upload sends a blob. Compressed it is sent once: after a break it goes on as it
// is, which can be gone on with after further ones.
func (s *Store) upload(ctx context.Context, d cas.Digest, open func(ctx context.Context, offset int64) (io.ReadCloser, error), packed bool) error {
	u := &upload{store: s, digest: d, open: open, id: uuid.NewString(), packed: packed}
	tries := s.attempts()
	for {
		err := u.attempt(ctx)
		if err == nil {
			return nil
		}
		if u.offset > u.best {
			u.best = u.offset
			tries.progress()
		}
		if err := tries.again(ctx, err); err != nil {
			return err
		}
		u.begun = !u.packed
		u.packed = false
	}
}

// attempt finds out where to go on and sends the rest.
func (u *upload) attempt(ctx context.Context) error {
	if u.begun {
		complete, err := u.query(ctx)
		if complete || err != nil {
			return err
		}
	}
	source, err := u.open(ctx, u.offset)
	if err != nil {
		return fmt.Errorf("%w: %w", errSource, err)
	}
	err = u.send(ctx, source)
	if closeErr := source.Close(); err == nil && closeErr != nil {
		return fmt.Errorf("%w: %w", errSource, closeErr)
	}
	if u.offset > 0 && err != nil && offsetRefused(err) {
		u.id, u.offset = uuid.NewString(), 0
		return fmt.Errorf("%w: %w", errRestart, err)
	}
	return err
}

// query asks how much of the blob the server has.
func (u *upload) query(ctx context.Context) (complete bool, err error) {
	var resp *bytestream.QueryWriteStatusResponse
	err = u.store.once(ctx, func(ctx context.Context) (err error) {
		resp, err = u.store.streams.QueryWriteStatus(ctx, &bytestream.QueryWriteStatusRequest{ResourceName: u.name()}, u.store.callOptions...)
		return err
	})
	if err != nil && !unknownUpload(err) {
		return false, err
	}
	u.offset = resp.GetCommittedSize()
	if u.offset < 0 || u.offset > u.digest.Size() {
		u.offset = 0
	}
	return resp.GetComplete(), nil
}

func (u *upload) name() string {
	kind := "/blobs/"
	if u.packed {
		kind = "/compressed-blobs/zstd/"
	}
	return u.store.instancePrefix() + "uploads/" + u.id + kind + u.digest.Name()
}

// send sends the rest of the blob on one stream. Only when the source has come to
// its end, which for a content means that its hash is right, the server is told
// that this was all.
func (u *upload) send(ctx context.Context, source io.Reader) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	chunk := u.store.chunks.Get().(*[]byte)
	defer u.store.chunks.Put(chunk)
	w := &messageWriter{
		ctx: ctx, watch: newWatch(u.store.options.StallTimeout, cancel),
		name: u.name(), offset: u.offset, chunk: (*chunk)[:0],
	}
	err := w.watch.step(ctx, func() (err error) {
		w.stream, err = u.store.streams.Write(ctx)
		return err
	})
	if err != nil {
		return err
	}
	left := &countdown{r: source, left: u.digest.Size() - u.offset}
	if u.packed {
		err = u.store.zstd.encode(w, left, u.digest.Size())
	} else {
		_, err = w.ReadFrom(left)
	}
	if left.err != nil {
		return left.err
	}
	if err == nil {
		err = w.finish()
	}
	if err != nil && !w.ended {
		return err
	}
	return u.confirm(w) // also where the server did not wait for the end
}

// confirm asks for the server's answer.
func (u *upload) confirm(w *messageWriter) error {
	var resp *bytestream.WriteResponse
	err := w.watch.step(w.ctx, func() (err error) {
		resp, err = w.stream.CloseAndRecv()
		return err
	})
	if err != nil {
		return err
	}
	if n := resp.GetCommittedSize(); !u.packed && n != u.digest.Size() {
		return fmt.Errorf("%w: it has %d bytes of %d", errShort, n, u.digest.Size())
	}
	return nil
}

// countdown is a source of which exactly left bytes must come. It keeps what goes
// wrong there apart from what goes wrong with the stream.
type countdown struct {
	r    io.Reader
	left int64
	err  error // a final one
}

// Read implements io.Reader.
func (c *countdown) Read(p []byte) (int, error) {
	n, err := c.r.Read(p)
	c.left -= int64(n)
	if c.left < 0 || err == io.EOF && c.left != 0 {
		err = fmt.Errorf("%w: it has another size than it should", io.ErrUnexpectedEOF)
	}
	if err != nil && err != io.EOF {
		c.err = fmt.Errorf("%w: %w", errSource, err)
		err = c.err
	}
	return n, err
}
