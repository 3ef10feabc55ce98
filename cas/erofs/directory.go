package erofs

import (
	"encoding/binary"
	"slices"
	"strings"
)

// End writes the entries of the open directory.
func (b *Builder) End() {
	b.insert(".", b.open.nid)
	b.insert("..", b.open.parent)
	first, start := len(b.blocks)/b.blockSize, len(b.blocks)
	left := b.entries
	for len(left) > 0 {
		n := b.fits(left)
		b.blocks = pad(b.blocks, b.blockSize)
		b.blocks = appendEntries(b.blocks, left[:n])
		left = left[n:]
	}
	size := len(b.blocks) - start
	b.blocks = pad(b.blocks, b.blockSize)
	b.complete(uint32(first), size)
}

// insert adds an entry where it belongs.
func (b *Builder) insert(name string, nid uint64) {
	at, _ := slices.BinarySearchFunc(b.entries, name, func(e dirent, name string) int { return strings.Compare(e.name, name) })
	b.entries = slices.Insert(b.entries, at, dirent{name: name, nid: nid, kind: typeDir})
}

// complete fills in what was not known of the open directory's inode.
func (b *Builder) complete(first uint32, size int) {
	n := inode{
		mode: modeDir | b.opts.DirMode, owner: b.opts.DirOwner, time: b.opts.Time,
		nlink: uint32(b.links), size: int64(size), content: first,
	}
	if b.links > 0xFFFF {
		n.nlink = 1 // which programs take for "unknown"
	}
	n.put(b.inodes[b.open.nid<<slotBits:], b.open.nid)
}

// fits counts the entries that one block can hold.
func (b *Builder) fits(entries []dirent) int {
	used := 0
	for i, e := range entries {
		if used += direntLen + len(e.name); used > b.blockSize {
			return i
		}
	}
	return len(entries)
}

// appendEntries appends a block, but for the zeros at its end.
func appendEntries(to []byte, entries []dirent) []byte {
	at, name := len(to), direntLen*len(entries)
	to = grow(to, name)
	for _, e := range entries {
		d := to[at : at+direntLen]
		binary.LittleEndian.PutUint64(d, e.nid)
		binary.LittleEndian.PutUint16(d[8:], uint16(name))
		d[10] = e.kind
		at += direntLen
		name += len(e.name)
		to = append(to, e.name...)
	}
	return to
}
