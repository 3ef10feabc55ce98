package execserver

import (
	"errors"
	"runtime"

	"golang.org/x/sys/unix"
)

// asUser runs f on a thread whose file accesses are those of another user. It
// tells what a command will be allowed to do, which the server's own rights
// say nothing of.
func asUser(uid, gid uint32, f func() error) (err error) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	oldGID, err := unix.SetfsgidRetGid(int(gid))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, unix.Setfsgid(oldGID)) }()
	oldUID, err := unix.SetfsuidRetUid(int(uid))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, unix.Setfsuid(oldUID)) }()
	return f()
}
