package podman

import (
	"encoding/json"
	"fmt"
	"os"
	"slices"

	"go.podman.io/common/pkg/seccomp"
	"golang.org/x/sys/unix"
)

// seccompFile holds the profile, in the Backend's own directory.
const seccompFile = "seccomp.json"

// newNamespaces are the flags of clone that make a namespace.
const newNamespaces = unix.CLONE_NEWNS | unix.CLONE_NEWCGROUP | unix.CLONE_NEWUTS | unix.CLONE_NEWIPC |
	unix.CLONE_NEWUSER | unix.CLONE_NEWPID | unix.CLONE_NEWNET

// forbidden are the system calls that podman allows and actions do without.
func forbidden() []string {
	return []string{
		// The kernel keeps keys by user, not by container, so that actions could leave
		// each other messages, or use up what their user may have.
		"keyctl", "add_key", "request_key",
		// In a user namespace of its own an action has all capabilities. Those of one
		// that is root, and can become any user, then hold for every file that it sees.
		"unshare", "setns", "clone3",
		// What they are for; most of the kernel's flaws of late need them.
		"mount", "mount_setattr", "move_mount", "umount", "umount2", "pivot_root",
		"fsconfig", "fsmount", "fsopen", "fspick", "open_tree",
		// Ends the container's first process.
		"reboot",
		"name_to_handle_at",
	}
}

// seccompProfile is podman's own without what is forbidden.
func seccompProfile() *seccomp.Seccomp {
	profile := seccomp.DefaultProfile()
	for _, call := range profile.Syscalls {
		call.Names = slices.DeleteFunc(call.Names, func(name string) bool {
			return name == "clone" || slices.Contains(forbidden(), name)
		})
	}
	profile.Syscalls = slices.DeleteFunc(profile.Syscalls, func(call *seccomp.Syscall) bool { return len(call.Names) == 0 })
	none := func(argument uint) []*seccomp.Arg {
		return []*seccomp.Arg{{Index: argument, Value: newNamespaces, Op: seccomp.OpMaskedEqual}}
	}
	// The flags of clone3 are out of a filter's reach; libraries use clone if there is none.
	noSuchCall, notPermitted, s390 := uint(unix.ENOSYS), uint(unix.EPERM), []string{"s390", "s390x"}
	refused := slices.DeleteFunc(forbidden(), func(name string) bool { return name == "clone3" })
	profile.Syscalls = append(profile.Syscalls,
		&seccomp.Syscall{Names: []string{"clone"}, Action: seccomp.ActAllow, Args: none(0), Excludes: seccomp.Filter{Arches: s390}},
		&seccomp.Syscall{Names: []string{"clone"}, Action: seccomp.ActAllow, Args: none(1), Includes: seccomp.Filter{Arches: s390}},
		&seccomp.Syscall{Names: []string{"clone3"}, Action: seccomp.ActErrno, Errno: "ENOSYS", ErrnoRet: &noSuchCall},
		&seccomp.Syscall{Names: refused, Action: seccomp.ActErrno, Errno: "EPERM", ErrnoRet: &notPermitted},
	)
	return profile
}

// writeSeccomp writes the profile to where the podman service reads it.
func writeSeccomp(path string) error {
	text, err := json.Marshal(seccompProfile())
	if err == nil {
		err = os.WriteFile(path, text, 0o600)
	}
	if err != nil {
		return fmt.Errorf("write the list of system calls that actions may use: %w", err)
	}
	return nil
}
