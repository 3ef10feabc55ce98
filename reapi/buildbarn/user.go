package buildbarn

import (
	"fmt"
	"syscall"

	"github.com/hearth-build/hearth/reapi/execution"
)

// nobody is whom commands run as where everybody may write to the input root.
const nobody = 65534

// user is whom a command runs as: somebody who can write to its input root, and, where
// that is possible, not its owner, who could change files that bb_worker has linked
// into its cache.
func (r *Runner) user(root string) (uid, gid uint32, err error) {
	if r.opts.Platform.RunAsRoot {
		return 0, 0, nil
	}
	info, err := r.dir.Stat(root)
	if err != nil {
		return 0, 0, err
	}
	owner, ok := info.Sys().(*syscall.Stat_t)
	const others = 0o003 // may write and search
	if !ok || info.Mode().Perm()&others == others {
		return nobody, nobody, nil
	}
	if owner.Uid == 0 {
		return 0, 0, fmt.Errorf("%w: the input root belongs to root, and others may not write to it: let bb_worker run as another user or with umask 0, or let commands be root with --property dockerRunAsRoot=true", execution.ErrInvalid)
	}
	return owner.Uid, owner.Gid, nil
}
