package tree

import (
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"

	"github.com/moby/sys/mountinfo"
	"golang.org/x/sys/unix"
)

// fsOption is an option of a file system that is to be mounted: a flag if it
// has no value.
type fsOption struct{ key, value string }

// mountAttributes keep what is mounted from giving anybody more rights.
const mountAttributes = unix.MOUNT_ATTR_NOSUID | unix.MOUNT_ATTR_NODEV

// imageOptions mount an EROFS image.
func imageOptions(image string, packs ...string) []fsOption {
	options := []fsOption{{"source", image}, {"ro", ""}}
	for _, p := range packs {
		options = append(options, fsOption{"device", p})
	}
	return options
}

// overlay is what an overlay is made of.
type overlay struct {
	lower   string // names
	blobs   string // contents of those that are redirects
	changes string // the upper layer
	scratch string // for the kernel
}

func overlayOptions(o overlay) []fsOption {
	escape := strings.NewReplacer(`\`, `\\`).Replace // which the kernel undoes in these two
	return []fsOption{
		{"source", "hearth"},
		{"lowerdir+", o.lower},
		{"datadir+", o.blobs},
		{"upperdir", escape(o.changes)},
		{"workdir", escape(o.scratch)},
		{"metacopy", "on"},     // which redirects need; and chmod copies no contents
		{"redirect_dir", "on"}, // so that directories of the input root can be renamed
		{"index", "off"},
		{"xino", "on"}, // all files are on one device, as far as programs can tell
		{"volatile", ""},
	}
}

// mountOn mounts a file system on a directory of ours.
func mountOn(dir, kind string, options []fsOption) error {
	at, err := unix.Open(dir, unix.O_PATH|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("open mount point %s: %w", dir, err)
	}
	defer unix.Close(at)
	return mountAt(at, kind, options)
}

// mountAt mounts a file system on an open directory.
func mountAt(target int, kind string, options []fsOption) error {
	fd, err := makeMount(kind, options)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	const flags = unix.MOVE_MOUNT_F_EMPTY_PATH | unix.MOVE_MOUNT_T_EMPTY_PATH
	if err := ignoringEINTR(func() error { return unix.MoveMount(fd, "", target, "", flags) }); err != nil {
		return fmt.Errorf("mount %s: %w", kind, err)
	}
	return nil
}

// makeMount makes a mount that is not attached to any directory yet.
func makeMount(kind string, options []fsOption) (fd int, err error) {
	fs, err := unix.Fsopen(kind, unix.FSOPEN_CLOEXEC)
	if err != nil {
		return -1, fmt.Errorf("mount %s: %w", kind, err)
	}
	defer unix.Close(fs)
	for _, o := range options {
		err := ignoringEINTR(func() error {
			if o.value == "" {
				return unix.FsconfigSetFlag(fs, o.key)
			}
			return unix.FsconfigSetString(fs, o.key, o.value)
		})
		if err != nil {
			return -1, fmt.Errorf("mount %s: set %s=%s: %w%s", kind, o.key, o.value, err, complaints(fs))
		}
	}
	if err := ignoringEINTR(func() error { return unix.FsconfigCreate(fs) }); err != nil {
		return -1, fmt.Errorf("mount %s: %w%s", kind, err, complaints(fs))
	}
	fd, err = unix.Fsmount(fs, unix.FSMOUNT_CLOEXEC, mountAttributes)
	if err != nil {
		return -1, fmt.Errorf("mount %s: %w", kind, err)
	}
	return fd, nil
}

// complaints are what the kernel says about a mount that failed.
func complaints(fs int) string {
	var all strings.Builder
	buf := make([]byte, 4096)
	for {
		n, err := unix.Read(fs, buf)
		if err != nil || n <= 0 {
			break
		}
		_, text, _ := strings.Cut(string(buf[:n]), " ") // "e text"
		all.WriteString("; " + strings.TrimSpace(text))
	}
	if all.Len() == 0 {
		return ""
	}
	return " (the kernel says: " + all.String()[2:] + ")"
}

func ignoringEINTR(f func() error) error {
	for {
		if err := f(); err != unix.EINTR {
			return err
		}
	}
}

// UnmountBelow unmounts all that an earlier process left mounted below dir, and
// says how much that was. Who still uses it keeps it until they end.
func UnmountBelow(dir string) (int, error) {
	dir, err := filepath.EvalSymlinks(dir)
	if errors.Is(err, unix.ENOENT) {
		return 0, nil
	}
	if err != nil {
		return 0, fmt.Errorf("look for mounts below %s: %w", dir, err)
	}
	mounts, err := mountinfo.GetMounts(func(m *mountinfo.Info) (skip, stop bool) {
		return !strings.HasPrefix(m.Mountpoint, dir+"/"), false
	})
	if err != nil {
		return 0, fmt.Errorf("look for mounts below %s: %w", dir, err)
	}
	count := 0
	for _, m := range slices.Backward(mounts) { // the last one is on top
		if err := unix.Unmount(m.Mountpoint, unix.MNT_DETACH|unix.UMOUNT_NOFOLLOW); err != nil {
			return count, fmt.Errorf("unmount %s: %w", m.Mountpoint, err)
		}
		count++
	}
	return count, nil
}

// ShareMount makes the mount that holds dir pass new mounts on to its copies in
// containers, as hosts with systemd do for all of theirs. It stays like that: it
// costs nothing, and other programs may have come to rely on it.
func ShareMount(dir string) error {
	dir, err := filepath.EvalSymlinks(dir)
	if err != nil {
		return err
	}
	mounts, err := mountinfo.GetMounts(mountinfo.ParentsFilter(dir))
	if err != nil {
		return err
	}
	var holder *mountinfo.Info
	for _, m := range mounts {
		if holder == nil || len(m.Mountpoint) >= len(holder.Mountpoint) { // of several at one place the last is on top
			holder = m
		}
	}
	if holder == nil {
		return fmt.Errorf("no mount holds %s", dir)
	}
	if strings.Contains(holder.Optional, "shared:") {
		return nil
	}
	if err := unix.Mount("", holder.Mountpoint, "", unix.MS_SHARED, ""); err != nil {
		return fmt.Errorf("make the mount %s shared: %w", holder.Mountpoint, err)
	}
	return nil
}
