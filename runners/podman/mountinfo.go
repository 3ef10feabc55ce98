package podman

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// mount is a line of a process's mountinfo.
type mount struct {
	device   string // of the file system, as major:minor
	root     string // the part of the file system that is mounted
	point    string
	options  []string // of the mount
	shared   bool
	fsType   string
	superOpt []string // of the file system
}

// readMounts lists this process's mounts, each after those that it lies on.
func readMounts() ([]mount, error) { return readMountsOf("self") }

// readMountsOf lists the mounts of a process.
func readMountsOf(pid string) (mounts []mount, err error) {
	f, err := os.Open("/proc/" + pid + "/mountinfo")
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	lines := bufio.NewScanner(f)
	lines.Buffer(nil, 1<<20) // overlays name all their layers
	for lines.Scan() {
		m, ok := parseMount(lines.Text())
		if !ok {
			return nil, fmt.Errorf("/proc/%s/mountinfo has a line that is not understood: %q", pid, lines.Text())
		}
		mounts = append(mounts, m)
	}
	return mounts, lines.Err()
}

// parseMount reads a line: "36 35 98:0 /root /point opts shared:1 - ext4 /dev/x superopts".
func parseMount(line string) (mount, bool) {
	before, after, found := strings.Cut(line, " - ")
	fields, super := strings.Fields(before), strings.Fields(after)
	if !found || len(fields) < 6 || len(super) < 2 {
		return mount{}, false
	}
	m := mount{
		device:  fields[2],
		root:    unescape(fields[3]),
		point:   unescape(fields[4]),
		options: strings.Split(fields[5], ","),
		shared:  slices.ContainsFunc(fields[6:], func(s string) bool { return strings.HasPrefix(s, "shared:") }),
		fsType:  super[0],
	}
	if len(super) > 2 {
		m.superOpt = strings.Split(super[2], ",")
	}
	return m, true
}

// unescape undoes the kernel's encoding of what separates fields.
func unescape(s string) string {
	return strings.NewReplacer(`\040`, " ", `\011`, "\t", `\012`, "\n", `\134`, `\`).Replace(s)
}

// visible tells whether the mount is what one finds at its place, and not
// another that was mounted over it.
func (m mount) visible() bool {
	var st unix.Stat_t
	return unix.Stat(m.point, &st) == nil && m.device == fmt.Sprintf("%d:%d", unix.Major(st.Dev), unix.Minor(st.Dev))
}

// isBelow tells whether a clean path is dir or below it.
func isBelow(path, dir string) bool {
	return path == dir || dir == "/" || strings.HasPrefix(path, dir+"/")
}

// shareMount makes the mount that holds dir pass new mounts on to its copies in
// containers, as hosts with systemd do for all of theirs. It stays like that: it
// costs nothing, and other programs may have come to rely on it.
func shareMount(dir string) error {
	holder, err := mountOf(dir)
	if err != nil || holder.shared {
		return err
	}
	if err := unix.Mount("", holder.point, "", unix.MS_SHARED, ""); err != nil {
		return fmt.Errorf("make the mount %s shared: %w", holder.point, err)
	}
	return nil
}

// mountOf finds the mount that a directory is in.
func mountOf(dir string) (mount, error) {
	dir, err := filepath.EvalSymlinks(dir)
	if err != nil {
		return mount{}, err
	}
	mounts, err := readMounts()
	if err != nil {
		return mount{}, err
	}
	holder := mount{}
	for _, m := range mounts {
		// Of several at one place the last is on top.
		if isBelow(dir, m.point) && len(m.point) >= len(holder.point) {
			holder = m
		}
	}
	if holder.point == "" {
		return mount{}, fmt.Errorf("no mount holds %s", dir)
	}
	return holder, nil
}

// unmountBelow unmounts all that is mounted on dir or below it, and says how much.
func unmountBelow(dir string) (int, error) {
	mounts, err := readMounts()
	if err != nil {
		return 0, err
	}
	count := 0
	for _, m := range slices.Backward(mounts) {
		if !isBelow(m.point, dir) {
			continue
		}
		if err := unix.Unmount(m.point, unix.MNT_DETACH|unix.UMOUNT_NOFOLLOW); err != nil {
			return count, fmt.Errorf("unmount %s: %w", m.point, err)
		}
		count++
	}
	return count, nil
}
