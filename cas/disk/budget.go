package disk

import (
	"errors"
	"fmt"

	"github.com/hearth-build/hearth/cas"
)

// victim is a blob that is out of the index and whose files have to go. Its
// flight keeps writers of the same blob away until they are gone.
type victim struct {
	entry  *entry
	flight *flight
}

// evictLocked takes the blobs used least recently out of the index until bytes
// and blobs many are gone or none is left.
func (x *index) evictLocked(bytes int64, blobs int) []victim {
	var victims []victim
	var freed int64
	for freed < bytes || len(victims) < blobs {
		e := x.list.prev
		if e == &x.list {
			break
		}
		x.dropLocked(e)
		freed += e.charge()
		victims = append(victims, victim{e, x.startLocked(e.key, &flight{})})
	}
	return victims
}

// reserve takes need bytes from the budget. What has to go for them is the
// caller's to remove.
func (x *index) reserve(need int64) ([]victim, error) {
	x.mu.Lock()
	defer x.mu.Unlock()
	over := x.used + x.reserved + need - x.max
	if over > x.unpinned { // nothing goes for what will not fit
		return nil, fmt.Errorf("%w: of the store's budget of %s, %s are held by actions and %s by uploads in progress: raise the budget or run fewer at once",
			cas.ErrNoSpace, sizeText(x.max), sizeText(x.used-x.unpinned), sizeText(x.reserved))
	}
	x.reserved += need
	return x.evictLocked(over, 0), nil
}

func (x *index) unreserve(n int64) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.reserved -= n
}

// reservation is room for one file, in the budget and on the file system.
type reservation struct {
	disk    *Disk
	bytes   int64
	pending int64 // of them, those not written yet
}

// maxEvictions is how often a reservation looks again whether what it evicted
// made room. Blobs that are also linked or open elsewhere free nothing.
const maxEvictions = 8

// reserve makes room for a file of the given size, by eviction if need be.
func (d *Disk) reserve(size int64) (*reservation, error) {
	r := &reservation{disk: d, bytes: charge(size)}
	if r.bytes > d.index.max {
		return nil, fmt.Errorf("%w: %s, and the whole store may hold %s", cas.ErrTooLarge, sizeText(size), sizeText(d.index.max))
	}
	victims, err := d.index.reserve(r.bytes)
	if err != nil {
		return nil, err
	}
	if err := d.remove(victims); err != nil {
		d.index.unreserve(r.bytes)
		return nil, err
	}
	r.pending = r.bytes
	d.space.pending.Add(r.bytes)
	if err := d.makeFree(); err != nil {
		r.release()
		return nil, err
	}
	return r, nil
}

// makeFree evicts until the file system has room for all that is reserved.
func (d *Disk) makeFree() error {
	if bytes, blobs, err := d.space.shortage(false); err != nil || (bytes == 0 && blobs == 0) {
		return err
	}
	// One at a time: each would evict for the reservations of all.
	d.space.making.Lock()
	defer d.space.making.Unlock()
	for range maxEvictions {
		bytes, blobs, err := d.space.shortage(true)
		if err != nil || (bytes == 0 && blobs == 0) {
			return err
		}
		d.index.mu.Lock()
		victims := d.index.evictLocked(bytes, blobs)
		d.index.mu.Unlock()
		if len(victims) == 0 {
			break
		}
		if err := d.remove(victims); err != nil {
			return err
		}
	}
	// The last eviction may have been enough.
	if bytes, blobs, err := d.space.shortage(true); err != nil || (bytes == 0 && blobs == 0) {
		return err
	}
	return d.space.full(d.layout.dir)
}

// wrote tells that n bytes of the reservation are on the file system now.
func (r *reservation) wrote(n int64) {
	n = min(n, r.pending)
	r.pending -= n
	r.disk.space.pending.Add(-n)
}

// spend ends the reservation of a file that the index accounts for now.
func (r *reservation) spend() {
	r.wrote(r.pending)
	r.bytes = 0
}

// release gives back what was not spent.
func (r *reservation) release() {
	r.wrote(r.pending)
	r.disk.index.unreserve(r.bytes)
}

// remove deletes the files of victims and lets their flights end. A file that
// cannot be deleted is no longer served all the same.
func (d *Disk) remove(victims []victim) error {
	if len(victims) == 0 {
		return nil
	}
	defer func() {
		for _, v := range victims {
			d.index.finish(v.entry.key, v.flight)
		}
	}()
	if err := d.enter(); err != nil {
		return err
	}
	defer d.life.RUnlock()
	var errs []error
	for _, v := range victims {
		errs = append(errs, d.unlink(v.entry))
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("evict blobs: %w", err)
	}
	return nil
}

// unlink deletes the files of a blob that is not in the index.
func (d *Disk) unlink(e *entry) error {
	path := d.path(e.key)
	err := removeFile(path)
	if e.executable {
		err = errors.Join(err, removeFile(path+execSuffix))
	}
	return err
}
