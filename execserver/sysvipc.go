package execserver

import (
	"encoding/binary"
	"errors"
	"fmt"
	"runtime"
	"unsafe"

	"golang.org/x/sys/unix"
)

// sysvKind is one of the three kinds of System V objects: shared memory,
// semaphores and message queues. They outlive the processes that made them.
type sysvKind struct {
	what string
	// ctl is the system call; info and stat are two of its commands. The first
	// counts the objects, in the used-th number of what it fills in, the second
	// tells the id and owner of one.
	ctl        uintptr
	info, stat uintptr
	used       int
}

func sysvKinds() []sysvKind {
	return []sysvKind{
		{what: "shared memory", ctl: unix.SYS_SHMCTL, info: 14, stat: 15, used: 0},   // SHM_INFO, SHM_STAT_ANY, used_ids
		{what: "semaphores", ctl: unix.SYS_SEMCTL, info: 19, stat: 20, used: 7},      // SEM_INFO, SEM_STAT_ANY, semusz
		{what: "a message queue", ctl: unix.SYS_MSGCTL, info: 12, stat: 13, used: 0}, // MSG_INFO, MSG_STAT_ANY, msgpool
	}
}

// sysvRoom is more than the kernel fills in for any of these commands.
type sysvRoom [256]byte

// call calls the system call with a command; semaphores have an argument more.
func (k sysvKind) call(id int, command uintptr, room *sysvRoom) (int, error) {
	args := [2]uintptr{command, uintptr(unsafe.Pointer(room))}
	var n uintptr
	var errno unix.Errno
	if k.ctl == unix.SYS_SEMCTL {
		n, _, errno = unix.RawSyscall6(k.ctl, uintptr(id), 0, args[0], args[1], 0, 0)
	} else {
		n, _, errno = unix.RawSyscall(k.ctl, uintptr(id), args[0], args[1])
	}
	if errno != 0 {
		return 0, errno
	}
	return int(n), nil
}

// removeSysV removes all System V objects of the IPC namespace, which must be
// the container's own. No process must be left that could make another.
func removeSysV() error {
	for _, k := range sysvKinds() {
		if err := k.removeAll(); err != nil {
			return fmt.Errorf("remove %s: %w", k.what, err)
		}
	}
	return nil
}

func (k sysvKind) removeAll() error {
	var room sysvRoom
	last, err := k.call(0, k.info, &room)
	if err != nil {
		return err
	}
	if binary.NativeEndian.Uint32(room[4*k.used:]) == 0 {
		return nil
	}
	for i := range last + 1 {
		id, err := k.call(i, k.stat, &room)
		if errors.Is(err, unix.EINVAL) {
			continue // there is none at this place
		}
		if err != nil {
			return err
		}
		owner := binary.NativeEndian.Uint32(room[4:]) // after the key
		if err := asEffectiveUser(owner, func() error {
			_, err := k.call(id, unix.IPC_RMID, &room)
			return err
		}); err != nil {
			return err
		}
	}
	return nil
}

// asEffectiveUser runs f on a thread that is another user: only the owner of an
// object may remove it, and the server lacks the capability to do it for him.
func asEffectiveUser(uid uint32, f func() error) (err error) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	const keep = ^uintptr(0)
	if _, _, errno := unix.RawSyscall(unix.SYS_SETRESUID, keep, uintptr(uid), keep); errno != 0 {
		return errno
	}
	defer func() {
		if _, _, errno := unix.RawSyscall(unix.SYS_SETRESUID, keep, 0, keep); errno != 0 {
			err = errors.Join(err, errno)
		}
	}()
	return f()
}
