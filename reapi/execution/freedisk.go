package execution

import (
	"context"
	"fmt"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/hearth-build/hearth/runners"
)

// roomy fails tasks for which a file system has too little room.
type roomy struct {
	Executor
	dir string
}

// WithFreeDisk fails tasks that say that they need more room than there is on the
// file system of dir, in which runners and their workspaces are. It looks when a
// task is admitted, and reserves nothing: what the cache and other actions write
// meanwhile is not known, so waiting for room might be in vain.
func WithFreeDisk(base Executor, dir string) Executor { return &roomy{Executor: base, dir: dir} }

// Execute implements Executor.
func (e *roomy) Execute(ctx context.Context, t *Task, report Report) *Outcome {
	if need := t.estimates().FreeDisk; need > 0 {
		if err := e.check(need); err != nil {
			return failed(err)
		}
	}
	return e.Executor.Execute(ctx, t, report)
}

// check tells what will never fit from what may fit later.
func (e *roomy) check(need int64) error {
	var fs unix.Statfs_t
	if err := unix.Statfs(e.dir, &fs); err != nil {
		return fmt.Errorf("look for free room in %s: %w", e.dir, err)
	}
	total, free := int64(fs.Blocks)*fs.Bsize, int64(fs.Bavail)*fs.Bsize
	switch {
	case need > total:
		return runners.Unmatched(runners.Difference{
			Property: runners.PropertyFreeDisk, Asked: size(float64(need)),
			Has: fmt.Sprintf("%s when %s is empty", size(float64(total)), e.dir),
		})
	case need > free:
		return fmt.Errorf("%w: property %s is %s, and the file system of %s has %s free: free some there, or let the cache use less (--max-bytes)",
			syscall.ENOSPC, runners.PropertyFreeDisk, size(float64(need)), e.dir, size(float64(free)))
	default:
		return nil
	}
}
