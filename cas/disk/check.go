package disk

import (
	"context"
	"errors"
	"fmt"
	"log/slog"

	"golang.org/x/sys/unix"

	"github.com/hearth-build/hearth/cas"
)

// Drop is something that was found damaged, and is served no more.
type Drop struct {
	Namespace string     // as in cas.NamespaceDir; of a record behind its table and a colon
	Digest    cas.Digest // of the blob, or of the action whose result it was; zero: many are gone
	Record    bool       // no blob
	Path      string     // of the file
	Err       error      // what is wrong with it; nil: the bytes are others
}

// String says what is gone, for people.
func (p Drop) String() string {
	what := fmt.Sprintf("blob %v", p.Digest)
	switch {
	case p.Digest.IsZero():
		what = "small blobs and results"
	case p.Record:
		what = fmt.Sprintf("record of %v", p.Digest)
	}
	if p.Path != "" {
		what += " in " + p.Path
	}
	if p.Err != nil {
		what += ": " + p.Err.Error()
	}
	return what
}

// tellDrop lets people know what went.
func (d *Disk) tellDrop(e *entry, path string, err error) {
	ns, digest := e.key().split()
	drop := Drop{Namespace: d.namespaceDir(ns), Digest: digest, Record: e.key().isRecord(), Path: path, Err: err}
	if d.options.OnDrop != nil {
		d.options.OnDrop(drop)
		return
	}
	d.options.Logger.Warn("something damaged was dropped from the store; the next upload heals it", slog.String("what", drop.String()))
}

// Report is what a check of a whole store found.
type Report struct {
	Checked int   // blobs and records
	Bytes   int64 // in them
	Dropped []Drop
}

// Verify checks all that is in the store in a directory, which no process has
// open, and drops what is damaged. The report holds as far as it came.
func Verify(ctx context.Context, options Options) (r Report, err error) {
	options.ScrubRate = -1
	options.OnDrop = func(p Drop) { r.Dropped = append(r.Dropped, p) }
	d, err := load(ctx, options)
	if err != nil {
		return r, err
	}
	d.startWriter(context.WithoutCancel(ctx))
	d.stop = func(error) {}
	entries := d.index.oldestFirst()
	for _, e := range entries {
		if err = d.inspect(ctx, e, func(int) error { return context.Cause(ctx) }); err != nil {
			break
		}
		r.Checked++
		r.Bytes += d.index.look(e).size
		if options.OnCheck != nil {
			options.OnCheck(r.Checked, len(entries))
		}
	}
	return r, errors.Join(err, d.Close())
}

// findingBytes is about what is read to find a value.
const findingBytes = 12 << 10

// inspect checks an entry that nobody doubts. Pace is called for each piece that
// was read.
func (d *Disk) inspect(ctx context.Context, e *entry, pace func(n int) error) error {
	if e.small {
		if err := pace(int(d.index.look(e).size) + findingBytes); err != nil || !d.index.has(e) {
			return err
		}
		return d.checkValue(e)
	}
	_, digest := e.key().split()
	ok, _, err := d.fileIsRight(d.path(e), digest, pace)
	switch {
	case err != nil && !damaged(err):
		return fmt.Errorf("check blob %v: %w", digest, err)
	case !ok && d.index.has(e):
		d.index.doubt(e)
	}
	// Also what was in doubt before is settled.
	_, err = d.verify(ctx, e.key())
	return err
}

// openQuietly is openFile for a reading that is no use of the blob.
func openQuietly(path string) (int, error) {
	fd, err := openFile(path, unix.O_NOATIME)
	if errors.Is(err, unix.EPERM) { // the file is somebody else's
		return openFile(path, 0)
	}
	return fd, err
}
