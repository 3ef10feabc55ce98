package rootless

import (
	"bufio"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"os/user"
	"strconv"
	"strings"
)

// ErrHost is wrapped by errors about what the host lacks, which say how to get it.
var ErrHost = errors.New("hearth does not run as root, and cannot become root of a user namespace")

// wanted is how many IDs the namespace has beside root: those of images, and nobody,
// 65534, whom actions run as.
const wanted = 65535

// ids are the maps of a namespace.
type ids struct {
	uid, gid       int
	uids, gids     idRange
	newuid, newgid string // the programs that make them
}

// idRange are IDs of the host that a user may use.
type idRange struct{ first, count int }

// findIDs looks at what the user of this process may have.
func findIDs(etc string) (ids, error) {
	m := ids{uid: os.Getuid(), gid: os.Getgid()}
	for name, path := range map[string]*string{"newuidmap": &m.newuid, "newgidmap": &m.newgid} {
		var err error
		if *path, err = exec.LookPath(name); err != nil {
			return m, fmt.Errorf("%w: the program %s is not installed: install it, on Debian and Ubuntu with `apt-get install uidmap`; or run hearth as root", ErrHost, name)
		}
	}
	name := strconv.Itoa(m.uid)
	if u, err := user.LookupId(name); err == nil {
		name = u.Username
	}
	for file, ranges := range map[string]*idRange{"subuid": &m.uids, "subgid": &m.gids} {
		found, err := readRange(etc+"/"+file, name, strconv.Itoa(m.uid))
		if err != nil {
			return m, err
		}
		if found.count < wanted {
			return m, fmt.Errorf("%w: the user %s has no range of %d IDs in %s/%s: give it one, that nobody else has, for example with "+
				"`usermod --add-subuids 524288-589823 --add-subgids 524288-589823 %s`; or run hearth as root", ErrHost, name, wanted+1, etc, file, name)
		}
		*ranges = found
	}
	return m, nil
}

// readRange finds the largest range of a user in lines USER:FIRST:COUNT.
func readRange(path string, names ...string) (largest idRange, err error) {
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return idRange{}, nil
	}
	if err != nil {
		return idRange{}, err
	}
	defer f.Close()
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		fields := strings.Split(strings.TrimSpace(lines.Text()), ":")
		if len(fields) != 3 || fields[0] != names[0] && fields[0] != names[1] {
			continue
		}
		first, err1 := strconv.Atoi(fields[1])
		count, err2 := strconv.Atoi(fields[2])
		if err1 == nil && err2 == nil && count > largest.count {
			largest = idRange{first, count}
		}
	}
	return largest, lines.Err()
}

// write gives the namespace of a process its maps: the user is root there, and the IDs
// of the range follow.
func (m ids) write(pid int) error {
	for _, one := range []struct {
		program string
		own     int
		more    idRange
	}{{m.newuid, m.uid, m.uids}, {m.newgid, m.gid, m.gids}} {
		args := []int{pid, 0, one.own, 1, 1, one.more.first, one.more.count}
		words := make([]string, len(args))
		for i, arg := range args {
			words[i] = strconv.Itoa(arg)
		}
		if out, err := exec.Command(one.program, words...).CombinedOutput(); err != nil {
			return fmt.Errorf("%w: %s %s: %w: %s", ErrHost, one.program, strings.Join(words, " "), err, strings.TrimSpace(string(out)))
		}
	}
	return nil
}
