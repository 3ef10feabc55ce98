package disk

import (
	"context"
	"sync"
	"syscall"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"
)

// compaction is what writes to files that nobody needs yet: the library removes
// them when it cannot, and tries again at once. If it waited they would take
// the space that it waits for.
const compaction vfs.DiskWriteCategory = "pebble-compaction"

// flush is what writes memtables out.
const flush vfs.DiskWriteCategory = "pebble-memtable-flush"

// compactions keeps the library's work on old files from taking what is left of
// a full disk from those who cannot do without: logs, memtables and blobs.
type compactions struct {
	// free tells how many bytes the file system has left; floor of them are for
	// the others.
	free  func() int64
	floor int64
	// wanted ends when nobody waits for a compaction any more, which stop sees to.
	wanted context.Context //nolint:containedctx // the lifetime of all compactions, which the library begins without one.
	stop   context.CancelFunc
	// onFailure is called when one had no room.
	onFailure func()

	mu       sync.Mutex // guards all below
	began    bool       // one that has not written yet
	had      int64      // what was free when the last one began
	failures int        // since one succeeded
	lacked   int64      // what was free when the last one that failed began
}

const (
	// maxCompactionPause is how long one that had no room is put off while there
	// is no more than it had: files and pages go that nobody counts here.
	maxCompactionPause = 30 * time.Second
	compactionPoll     = 50 * time.Millisecond
	// compactionStep is how many bytes are written without a look at the room.
	compactionStep = 256 << 10
)

// failing returns how many compactions in a row had no room.
func (c *compactions) failing() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.failures
}

// begin is called by the library when a compaction begins.
func (c *compactions) begin(pebble.CompactionInfo) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.began = true
}

// end is called by the library when a compaction ended.
func (c *compactions) end(info pebble.CompactionInfo) {
	failed := info.Err != nil && passing(info.Err)
	if failed {
		defer c.onFailure()
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case failed:
		c.failures++
		c.lacked = c.had
	case info.Err == nil && info.Reason != "move": // which needs no room
		c.failures = 0
	}
}

// await puts a compaction off that would fail as the last one did.
func (c *compactions) await() {
	c.mu.Lock()
	began, failing, lacked := c.began, c.failures > 0, c.lacked
	c.began = false
	c.mu.Unlock()
	if !began {
		return // one more file of one that goes on
	}
	give := time.NewTimer(maxCompactionPause)
	defer give.Stop()
	poll := time.NewTicker(compactionPoll)
	defer poll.Stop()
	for waiting := failing; waiting && c.free() <= lacked; {
		select {
		case <-poll.C:
		case <-give.C:
			waiting = false
		case <-c.wanted.Done():
			waiting = false
		}
	}
	free := c.free()
	c.mu.Lock()
	defer c.mu.Unlock()
	c.had = free
}

// watch looks after a file that a compaction writes.
func (c *compactions) watch(f *pieces) vfs.File {
	f.hasty = true
	return &compactionFile{pieces: f, all: c, unlooked: compactionStep}
}

// compactionFile is a file that a compaction writes. It fails, where other files wait,
// but for the end of it: the library cannot go on after an error there (2.1.7: a
// blob.FileWriter calls Abort after Finish has failed, which ends the process).
type compactionFile struct {
	*pieces
	all      *compactions
	unlooked int // bytes written since the last look at the room
}

// libraryPiece is what the library writes at once or, in a row, more; less is the end.
const libraryPiece = 4 << 10

// Write implements io.Writer.
func (f *compactionFile) Write(p []byte) (n int, err error) {
	if len(p) < libraryPiece {
		f.hasty = false
		return f.pieces.Write(p)
	}
	if f.unlooked += len(p); f.unlooked >= compactionStep {
		f.unlooked = 0
		if f.all.free() < f.all.floor {
			return 0, syscall.ENOSPC
		}
	}
	return f.pieces.Write(p)
}
