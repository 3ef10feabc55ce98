package disk

import (
	"context"
	"fmt"
	"time"

	"golang.org/x/sys/unix"
)

// syncEvery makes sync points until ctx ends.
func (d *Disk) syncEvery(ctx context.Context) {
	ticker := time.NewTicker(d.options.SyncInterval)
	defer ticker.Stop()
	ordered := time.Now()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
			d.verifyAll(ctx) // what could not be judged before
			if now := time.Now(); now.Sub(ordered) >= orderInterval {
				ordered = now
				d.warnIf("write a file; what was used lately may be evicted after a crash", d.writeOrder())
			}
			if d.dirty.Load() {
				d.warnIf("make a sync point; more will be checked after a crash", d.sync(ctx, false))
			}
		}
	}
}

// sync makes all that was written durable and then says so in the state file.
// While blobs of an earlier run are still in doubt it says nothing new: a sync
// point vouches for all that is older.
func (d *Disk) sync(ctx context.Context, clean bool) error {
	d.dirty.Store(false)
	point := time.Now()
	err := d.drain(ctx)
	if err == nil {
		err = d.unlessTrouble(d.values.sync)
	}
	if err != nil {
		d.dirty.Store(true)
		return fmt.Errorf("sync the small blobs: %w", err)
	}
	if err := unix.Syncfs(int(d.dir.Fd())); err != nil {
		d.dirty.Store(true)
		return fmt.Errorf("sync the file system of the store: %w", spaceError(err))
	}
	if d.index.anySuspect() {
		d.dirty.Store(true)
		return nil
	}
	if err := writeState(d.layout, state{Clean: clean, Synced: point}); err != nil {
		d.dirty.Store(true)
		return err
	}
	return nil
}
