package disk

import (
	"context"
	"fmt"
	"io"

	"github.com/hearth-build/hearth/cas"
)

// Put implements cas.Putter.
func (s *Store) Put(ctx context.Context, c *cas.Content) error {
	d := c.Digest()
	if err := context.Cause(ctx); err != nil {
		return err
	}
	if d.IsEmptyBlob() {
		return nil
	}
	if err := s.put(ctx, c); err != nil {
		return fmt.Errorf("store blob %v: %w", d, spaceError(err))
	}
	return nil
}

func (s *Store) put(ctx context.Context, c *cas.Content) error {
	if s.disk.isSmall(c.Digest().Size()) {
		return s.putSmall(ctx, c)
	}
	u := &upload{disk: s.disk, content: c, key: newKey(s.id, c.Digest()), path: s.disk.layout.blob(s.dir, c.Digest())}
	f, err := s.disk.claim(ctx, u.key)
	if f == nil || err != nil {
		return err
	}
	u.flight = f
	defer func() { s.disk.index.finish(u.key, u.flight) }()
	return u.run(ctx)
}

// claim waits until the blob is present (then there is no flight) or the caller
// is the one to write it.
func (d *Disk) claim(ctx context.Context, k key) (*flight, error) {
	for {
		p, f, own := d.index.claim(k)
		var err error
		var stalled bool
		switch {
		case p == present:
			return nil, nil
		case own:
			return f, nil
		case p == unchecked:
			_, err = d.verify(ctx, k)
		default:
			stalled, err = f.wait(ctx)
		}
		if err != nil {
			return nil, err
		}
		if stalled {
			if f := d.index.takeOver(k, f); f != nil {
				return f, nil
			}
		}
	}
}

// upload is a blob on its way to its file.
type upload struct {
	disk    *Disk
	content *cas.Content
	key     key
	path    string
	flight  *flight
}

func (u *upload) run(ctx context.Context) error {
	d, size := u.disk, u.content.Digest().Size()
	room, err := d.reserve(size)
	if err != nil {
		return err
	}
	defer room.release()
	t, err := d.files.create(blobMode)
	if err != nil {
		return err
	}
	defer t.discard()
	err = u.copy(ctx, t, room)
	if err == nil {
		err = context.Cause(ctx)
	}
	if err != nil {
		return err
	}
	if present, err := u.keepFlight(ctx); present || err != nil {
		return err
	}
	return u.commit(t, room)
}

// keepFlight gets the right to write the blob back if another upload took it
// while this one stalled, unless that one has stored the blob meanwhile.
func (u *upload) keepFlight(ctx context.Context) (present bool, err error) {
	if u.disk.index.holds(u.key, u.flight) {
		return false, nil
	}
	f, err := u.disk.claim(ctx, u.key)
	if f == nil || err != nil {
		return err == nil, err
	}
	u.disk.index.finish(u.key, u.flight)
	u.flight = f
	return false, nil
}

// commit makes the blob visible.
func (u *upload) commit(t *file, room *reservation) error {
	d := u.disk
	if err := d.enter(); err != nil {
		return err
	}
	defer d.life.RUnlock()
	written, err := t.modified()
	if err != nil {
		return err
	}
	if err := t.publish(u.path); err != nil {
		return err
	}
	d.dirty.Store(true)
	d.index.add(u.key, u.content.Digest().Size(), written)
	room.spend()
	return nil
}

// copy writes the content as it comes.
func (u *upload) copy(ctx context.Context, t *file, room *reservation) error {
	buf := u.disk.buffers.Get().(*[copyBuffer]byte)
	defer u.disk.buffers.Put(buf)
	for {
		if err := context.Cause(ctx); err != nil {
			return err
		}
		n, readErr := u.fill(buf[:])
		if _, err := t.Write(buf[:n]); err != nil {
			return err
		}
		room.wrote(int64(n))
		if readErr == io.EOF {
			return nil
		}
		if readErr != nil {
			return readErr
		}
	}
}

const copyBuffer = 256 << 10

// fill reads until buf is full or the content ends.
func (u *upload) fill(buf []byte) (n int, err error) {
	for n < len(buf) && err == nil {
		var m int
		m, err = u.content.Read(buf[n:])
		n += m
		u.flight.progress.Add(int64(m))
	}
	return n, err
}
