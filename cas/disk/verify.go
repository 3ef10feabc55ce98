package disk

import (
	"context"
	"errors"
	"fmt"
	"log/slog"

	"github.com/hearth-build/hearth/cas"
)

// verify settles a doubt: it returns whether the blob is there and right, after
// reading its file if nobody did since the doubt arose. A blob that is wrong or
// cannot be read is dropped; the next upload heals it.
func (d *Disk) verify(ctx context.Context, k key) (bool, error) {
	for {
		if p := d.index.use(k).presence; p != unchecked {
			return p == present, nil
		}
		e, f, own := d.index.claimExisting(k)
		switch {
		case e == nil:
			return false, nil
		case own:
			if err := d.check(ctx, e, f); err != nil {
				return false, err
			}
		default:
			if _, err := f.wait(ctx); err != nil {
				return false, err
			}
		}
	}
}

// check reads the file of a suspect and settles the doubt. It fails, and leaves
// the doubt, if the file could not be judged.
func (d *Disk) check(ctx context.Context, e *entry, f *flight) error {
	defer d.index.finish(e.key(), f)
	if !d.index.isSuspect(e) {
		return nil // it was checked between the caller's look and its claim
	}
	if e.small {
		return d.checkValue(e)
	}
	_, digest := e.key().split()
	path := d.path(e)
	ok, written, err := d.fileIsRight(path, digest, func(int) error { return context.Cause(ctx) })
	if err != nil && !damaged(err) {
		return fmt.Errorf("check blob %v: %w", digest, err)
	}
	if err := d.enter(); err != nil {
		return err
	}
	defer d.life.RUnlock()
	// Nobody vouches for the executable copy; it is made again when needed.
	d.warnIf("remove an executable copy", d.unlinkCopies(e, d.index.dropCopies(e)))
	if ok {
		d.index.trust(e, written)
		return nil
	}
	d.index.drop(e)
	d.tellDrop(e, path, err)
	d.warnIf("remove a damaged blob", removeFile(path))
	return nil
}

// checkValue is check for what is on the key-value side. A blob is checked by
// its hash, a record by its checksum.
func (d *Disk) checkValue(e *entry) error {
	f := d.index.look(e)
	data, err := d.fetchValue(f)
	if errors.Is(err, errDoubtful) {
		return nil // and it was dropped
	}
	if err != nil {
		return err
	}
	if _, digest := e.key().split(); !e.key().isRecord() && digest.Function().Sum(data) != digest {
		d.dropValue(e, cas.ErrMismatch)
		return nil
	}
	d.index.trust(e, f.written)
	return nil
}

// verifyAll settles all doubts, in the background.
func (d *Disk) verifyAll(ctx context.Context) {
	for _, k := range d.index.suspectKeys() {
		_, err := d.verify(ctx, k)
		if context.Cause(ctx) != nil {
			return // what is left is checked after the next start
		}
		d.warnIf("check a blob", err)
	}
}

func (d *Disk) warnIf(what string, err error) {
	if err != nil {
		d.options.Logger.Warn("the store could not "+what, slog.Any("error", err))
	}
}
