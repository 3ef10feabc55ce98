package disk

import (
	"errors"
	"fmt"
	"time"

	"github.com/hearth-build/hearth/cas"
)

// victim is an entry whose files have to go: copies, or the blob's own file as
// well. Its flight keeps others away from them until they are gone.
type victim struct {
	entry  *entry
	kinds  copyKinds
	blob   bool // the entry is out of the index
	flight *flight
}

// slack is how much more than needed is evicted, so that it is not done again
// for each blob.
func slack(max int64) int64 { return min(max/128/blockSize*blockSize, 64<<20) }

// makeRoomLocked evicts until need bytes fit into the budget.
func (x *index) makeRoomLocked(need int64) ([]victim, error) {
	over := x.used + x.reserved + need - x.max
	if need > x.max {
		return nil, fmt.Errorf("%w: it takes %s, and the whole store may hold %s", cas.ErrTooLarge, sizeText(need), sizeText(x.max))
	}
	if over > x.unpinned { // nothing goes for what will not fit
		return nil, fmt.Errorf("%w: of the store's budget of %s, %s are held by actions and %s by uploads in progress: raise the budget or run fewer at once",
			cas.ErrNoSpace, sizeText(x.max), sizeText(x.used-x.unpinned), sizeText(x.reserved))
	}
	if over <= 0 {
		return nil, nil
	}
	return x.evictLocked(over+slack(x.max), nil), nil
}

// evictLocked takes what was used least recently out of the index until bytes
// are gone or nothing is left: copies that nobody linked for a while first.
func (x *index) evictLocked(bytes int64, victims []victim) []victim {
	cold := time.Now().Add(-copyHeat)
	for c := x.copies.prev; bytes > 0 && c != &x.copies && c.linked.Before(cold); c = x.copies.prev {
		bytes -= c.entry.kinds.count() * blocksOf(c.entry.size)
		victims = append(victims, x.evictCopiesLocked(c))
	}
	var soon [ahead]uint32
	for n := 0; bytes > 0; n++ {
		if n%ahead == 0 {
			x.blobs.touchOldest(soon[:])
		}
		e := x.blobs.oldest()
		if e == nil {
			break
		}
		bytes -= e.charge()
		if v, files := x.evictBlobLocked(e); files {
			victims = append(victims, v)
		}
	}
	return victims
}

// evictFilesLocked is evictLocked for a number of files, and for bytes in files.
func (x *index) evictFilesLocked(files int, bytes int64, victims []victim) []victim {
	for c := x.copies.prev; (files > 0 || bytes > 0) && c != &x.copies; c = x.copies.prev {
		files--
		bytes -= c.entry.kinds.count() * blocksOf(c.entry.size)
		victims = append(victims, x.evictCopiesLocked(c))
	}
	for e := x.blobs.oldest(); (files > 0 || bytes > 0) && e != nil; {
		older := e
		e = x.blobs.newer(e)
		if older.small {
			continue
		}
		files--
		bytes -= older.charge()
		v, _ := x.evictBlobLocked(older)
		victims = append(victims, v)
	}
	return victims
}

func (x *index) evictCopiesLocked(c *copies) victim {
	e := c.entry
	kinds := x.dropCopiesLocked(e)
	x.pinLocked(e.key())
	return victim{entry: e, kinds: kinds, flight: x.startLocked(e.key(), &flight{pinned: true})}
}

// evictBlobLocked reports whether there are files to remove.
func (x *index) evictBlobLocked(e *entry) (v victim, files bool) {
	v = victim{entry: e, blob: !e.small, kinds: e.kinds}
	x.evicted++
	x.evictedBytes += e.charge()
	x.dropLocked(e)
	if !v.blob && v.kinds == 0 {
		return v, false
	}
	v.flight = x.startLocked(e.key(), &flight{})
	return v, true
}

// evict makes room on the file system. It reports whether anything went. While
// the key-value side cannot write, deletions there would free nothing.
func (d *Disk) evict(bytes int64, files int) (bool, error) {
	x, troubled := d.index, d.values.fs.trouble() != nil
	x.mu.Lock()
	before, small := x.used, x.small
	var inFiles int64
	if bytes > 0 && troubled {
		inFiles = bytes + slack(d.space.total)
	}
	victims := x.evictFilesLocked(files, inFiles, nil)
	if bytes > 0 && !troubled {
		victims = x.evictLocked(bytes+slack(d.space.total), victims)
	}
	gone := before != x.used
	d.reclaimer.add(small - x.small)
	x.mu.Unlock()
	return gone, d.removeNow(victims)
}

// removeNow is remove that returns when the file system has the room.
func (d *Disk) removeNow(victims []victim) error {
	defer d.remains.free()
	return d.remove(victims)
}

// remove deletes the files of victims and lets their flights end. A file that
// cannot be deleted is no longer served all the same.
func (d *Disk) remove(victims []victim) error {
	if len(victims) == 0 {
		return nil
	}
	defer func() {
		for _, v := range victims {
			d.index.finish(v.entry.key(), v.flight)
		}
	}()
	var errs []error
	for _, v := range victims {
		errs = append(errs, d.unlinkCopies(v.entry, v.kinds))
		if v.blob {
			errs = append(errs, d.remains.remove(d.path(v.entry), v.entry.size))
		}
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("evict blobs: %w", err)
	}
	return nil
}

// unlinkCopies deletes copies that are not in the index.
func (d *Disk) unlinkCopies(e *entry, kinds copyKinds) error {
	if kinds == 0 {
		return nil
	}
	path := d.path(e)
	var errs []error
	if kinds&plainCopy != 0 {
		errs = append(errs, removeFile(path))
	}
	if kinds&executableCopy != 0 {
		errs = append(errs, removeFile(path+execSuffix))
	}
	return errors.Join(errs...)
}
