package remote

import (
	"context"
	"fmt"
	"io"

	"github.com/hearth-build/hearth/cas"
)

// replayBytes is how much of a content that can be read once is kept, so that an
// upload can go on where the server has lost what was still on its way: the 4 MiB that
// a server of hearth lets a client send ahead, and messages in both programs' hands.
const replayBytes = 8 << 20

// replay reads a content once and can go back in it by replayBytes.
type replay struct {
	content *cas.Content
	ring    []byte // the byte at n is at n modulo its length
	total   int64  // bytes of the content that were read
}

func newReplay(c *cas.Content) *replay {
	return &replay{content: c, ring: make([]byte, min(c.Digest().Size(), replayBytes))}
}

// open goes on at an offset. The reader before it is not used any more.
func (r *replay) open(_ context.Context, offset int64) (io.ReadCloser, error) {
	if kept := min(r.total, int64(len(r.ring))); offset < r.total-kept || offset > r.total {
		return nil, fmt.Errorf("%w: the connection broke, and of the first %d bytes the remote store kept %d only: send the blob again",
			cas.ErrUnavailable, r.total, offset)
	}
	return &replayReader{replay: r, next: offset}, nil
}

type replayReader struct {
	replay *replay
	next   int64
}

// Read implements io.Reader.
func (r *replayReader) Read(p []byte) (int, error) {
	ring := r.replay.ring
	if r.next < r.replay.total {
		at := int(r.next % int64(len(ring)))
		most := min(int64(len(p)), r.replay.total-r.next)
		n := copy(p[:most], ring[at:])
		r.next += int64(n)
		return n, nil
	}
	n, err := r.replay.content.Read(p[:min(len(p), len(ring))])
	for kept := p[:n]; len(kept) > 0; {
		m := copy(ring[int(r.replay.total%int64(len(ring))):], kept)
		kept = kept[m:]
		r.replay.total += int64(m)
	}
	r.next = r.replay.total
	return n, err
}

// Close implements io.Closer.
func (r *replayReader) Close() error { return nil }
