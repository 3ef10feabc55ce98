package tree

import (
	"cmp"
	"fmt"
	"os"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	repb "github.com/bazelbuild/remote-apis/build/bazel/remote/execution/v2"
)

// The node properties that mean something here.
const (
	propertyMtime    = "mtime"
	propertyUnixMode = "unix_mode"
	// propertyTool is Bazel's mark of what a persistent worker is made of
	// (--experimental_remote_mark_tool_inputs).
	propertyTool = "bazel_tool_input"
)

// NodeProperties lists the node properties that are honoured: input files get
// them, and a Command may ask for those of its outputs. All others are marks
// that clients make for themselves.
func NodeProperties() []string { return []string{propertyMtime, propertyUnixMode} }

// wish is what a client wants of an input file besides its content. A file with
// a wish is the action's own copy, since nothing of it may reach a file that
// others use as well.
type wish struct {
	mode    uint32 // permissions alone
	hasMode bool
	mtime   unix.Timespec
	hasTime bool
}

// inputTime is the modification time of input files, 2000-01-01 UTC: an action
// that records it gives the same output every time. Linked files keep the
// store's.
const inputTime = 946_684_800

// attributes are what a file of an input root has besides its content.
type attributes struct {
	uid, gid int
	mode     uint32
	mtime    unix.Timespec
}

// owners are whom the files of an input root can belong to: its action's user, and
// root, whose are those that the action may not write to.
type owners struct {
	uid, gid         int
	rootUID, rootGID int
	writable         bool
}

func (o StageOptions) owners() owners {
	return owners{
		uid: o.UID, gid: o.GID, rootUID: cmp.Or(o.Root, os.Geteuid()), rootGID: cmp.Or(o.Root, os.Getegid()), writable: o.Writable,
	}
}

// attributes of a file. One that is not writable is the same as a link to the
// store's file. A mode that was wished for is meant for the action, so the file is
// its own.
func (e fileEntry) attributes(o owners) attributes {
	a := attributes{uid: o.uid, gid: o.gid, mode: 0o444, mtime: unix.Timespec{Sec: inputTime}}
	if e.executable {
		a.mode = 0o555
	}
	if e.wish != nil && e.wish.hasTime {
		a.mtime = e.wish.mtime
	}
	switch {
	case e.wish != nil && e.wish.hasMode:
		a.mode = e.wish.mode | a.mode&0o111
	case o.writable:
		a.mode |= 0o200
	default:
		a.uid, a.gid = o.rootUID, o.rootGID
	}
	return a
}

// wishOf checks the properties of a file and finds out what they ask for; nil:
// nothing.
func wishOf(p *repb.NodeProperties) (*wish, error) {
	if err := checkProperties(p); err != nil {
		return nil, err
	}
	w := &wish{}
	if p.GetUnixMode() != nil {
		const permissions = 0o777 // never those that give rights away
		w.mode, w.hasMode = p.GetUnixMode().GetValue()&permissions, true
	}
	if p.GetMtime() != nil {
		if err := p.GetMtime().CheckValid(); err != nil {
			return nil, fmt.Errorf("an mtime that is none: %w", err)
		}
		w.mtime, w.hasTime = unix.Timespec{Sec: p.GetMtime().GetSeconds(), Nsec: int64(p.GetMtime().GetNanos())}, true
	}
	if *w == (wish{}) {
		return nil, nil
	}
	return w, nil
}

func isTool(p *repb.NodeProperties) bool {
	return slices.ContainsFunc(p.GetProperties(), func(n *repb.NodeProperty) bool { return n.GetName() == propertyTool })
}

// checkProperties enforces the order of string properties; what they say is
// ignored, since clients use them as marks for themselves.
func checkProperties(p *repb.NodeProperties) error {
	sorted := slices.IsSortedFunc(p.GetProperties(), func(a, b *repb.NodeProperty) int {
		return strings.Compare(a.GetName(), b.GetName())
	})
	if !sorted {
		return fmt.Errorf("node properties that are not sorted by name")
	}
	return nil
}
