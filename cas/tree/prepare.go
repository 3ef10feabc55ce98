package tree

import (
	"fmt"
	"path"

	"golang.org/x/sys/unix"
)

// Prepare makes the staged input root in dir ready for a Command: its working
// directory must be there, and the parents of all outputs are made, owned by
// the action. Outputs themselves are not made. A symbolic link of the input
// root is followed as long as it stays inside. What the client got wrong is an
// *InvalidError.
func Prepare(dir string, out Outputs, opts StageOptions) error {
	root, err := openRoot(dir)
	if err != nil {
		return fmt.Errorf("open input root %s: %w", dir, err)
	}
	defer unix.Close(root)
	if err := checkWorkingDirectory(root, out.workingDirectory); err != nil {
		return err
	}
	for _, p := range out.parents() {
		if err := makeParent(root, p, opts); err != nil {
			return err
		}
	}
	return nil
}

func checkWorkingDirectory(root int, dir string) error {
	invalid := func(reason string) error {
		return &InvalidError{Subject: "working directory " + quote(dir), Reason: reason}
	}
	fd, err := openBelow(root, dir, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, within)
	switch err {
	case nil:
		return unix.Close(fd)
	case unix.ENOENT:
		return invalid("is not in the input root; add it as a directory, an empty one will do")
	case unix.ENOTDIR:
		return invalid("is not a directory in the input root")
	case unix.EXDEV:
		return invalid("leads out of the input root, by a symbolic link")
	case unix.ELOOP:
		return invalid("has a symbolic link that cannot be followed")
	}
	return fmt.Errorf("open working directory %s: %w", quote(dir), err)
}

// makeParent makes a directory whose own parent is there.
func makeParent(root int, p string, opts StageOptions) error {
	invalid := func(reason string) error {
		return &InvalidError{Subject: "the parent " + quote(p) + " of an output", Reason: reason}
	}
	const flags = unix.O_PATH | unix.O_DIRECTORY | unix.O_CLOEXEC
	fd, err := openBelow(root, p, flags, within)
	switch err {
	case nil:
		return unix.Close(fd)
	case unix.ENOTDIR:
		return invalid("is a file in the input root")
	case unix.EXDEV:
		return invalid("leads out of the input root, by a symbolic link")
	case unix.ELOOP:
		return invalid("has a symbolic link that cannot be followed")
	case unix.ENOENT:
	default:
		return fmt.Errorf("open output parent %s: %w", quote(p), err)
	}
	parent, err := openBelow(root, parentOf(p), flags, within)
	if err != nil {
		return fmt.Errorf("open output parent %s: %w", quote(parentOf(p)), err)
	}
	defer unix.Close(parent)
	name := path.Base(p)
	if err := unix.Mkdirat(parent, name, 0o755); err == unix.EEXIST {
		return invalid("is a symbolic link to nothing in the input root")
	} else if err != nil {
		return fmt.Errorf("make output parent %s: %w", quote(p), err)
	}
	made, err := openBelow(parent, name, openDir, strictHere)
	if err != nil {
		return fmt.Errorf("open output parent %s: %w", quote(p), err)
	}
	defer unix.Close(made)
	if err := own(made, opts.UID, opts.GID, 0o755); err != nil {
		return fmt.Errorf("give output parent %s to user %d: %w", quote(p), opts.UID, err)
	}
	return nil
}
