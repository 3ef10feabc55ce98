package disk

import (
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// Options says where a Disk is and how much it may hold.
type Options struct {
	// Dir is the store's own directory. It is made if it is missing; a
	// directory with other things in it is refused.
	Dir string
	// MaxBytes is the budget for blobs and records, as they occupy the disk
	// (files: whole blocks of 4 KiB). What is evicted on the key-value side takes
	// space until all of its time has gone or a quarter is dead, and its logs and
	// spare files some 160 MiB. 0: 80 % of what is free or already ours when Dir is
	// opened.
	MaxBytes int64
	// MinFreeBytes is what stays free on the file system, whoever fills it.
	// 0: 1 GiB, or 2 % of the file system where that is less.
	MinFreeBytes int64
	// SyncInterval is how often what was written is made durable, and so how
	// much has to be checked again after an unclean stop. 0: 30 s.
	SyncInterval time.Duration
	// ScrubRate is how many bytes per second are read to find damage, at most.
	// 0: 4 MiB, some 340 GB in a day. -1: nothing is read for that.
	ScrubRate int64
	// OnDrop is called for each damaged thing that is dropped. It must be quick,
	// and safe for concurrent use. nil: the Logger hears of it.
	OnDrop func(Drop)
	// OnCheck is called by Verify for each thing that it has checked. nil: nobody
	// hears how far it is.
	OnCheck func(checked, all int)
	// Logger hears of what goes wrong in the background. nil: nobody does.
	Logger *slog.Logger

	// For tests: the size from which on a blob is a file, what is under the
	// key-value side, and which operations on other files fail.
	split   int64
	valueFS vfs.FS
	faults  faults
}

func (o Options) withDefaults() Options {
	if o.SyncInterval == 0 {
		o.SyncInterval = 30 * time.Second
	}
	if o.ScrubRate == 0 {
		o.ScrubRate = 4 << 20
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.split == 0 {
		o.split = splitSize
	}
	if o.valueFS == nil {
		o.valueFS = vfs.Default
	}
	return o
}

// Validate names every option that is wrong.
func (o Options) Validate() error {
	var errs []error
	if o.Dir == "" {
		errs = append(errs, errors.New("no directory is given"))
	} else if !filepath.IsAbs(o.Dir) {
		errs = append(errs, fmt.Errorf("directory %q is not an absolute path", o.Dir))
	}
	if o.MaxBytes < 0 {
		errs = append(errs, fmt.Errorf("the byte budget %d is negative", o.MaxBytes))
	}
	if o.MinFreeBytes < 0 {
		errs = append(errs, fmt.Errorf("the free space to keep, %d, is negative", o.MinFreeBytes))
	}
	if o.ScrubRate < -1 {
		errs = append(errs, fmt.Errorf("the scrub rate %d is negative", o.ScrubRate))
	}
	if o.SyncInterval < 0 {
		errs = append(errs, fmt.Errorf("the sync interval %v is negative", o.SyncInterval))
	}
	if len(errs) > 0 {
		return fmt.Errorf("store options: %w", errors.Join(errs...))
	}
	return nil
}
