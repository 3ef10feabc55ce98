package erofs

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/bits"
)

// Owner of files or directories.
type Owner struct{ UID, GID uint32 }

// Options say what is the same for all that is in an image.
type Options struct {
	// BlockSize of the image and its devices, a power of two from 512 to 4096.
	BlockSize int
	// Time of modification, in seconds since 1970.
	Time int64
	// Directories belong to DirOwner, all else to FileOwner.
	DirOwner, FileOwner Owner
	// DirMode, FileMode and ProgramMode are permissions: of directories, of
	// files, and of files that can be executed.
	DirMode, FileMode, ProgramMode uint16
	// Devices are the lengths of the devices, in blocks. The image is mounted
	// with as many, in the same order.
	Devices []int64
}

// Dir is a directory of an image.
type Dir struct{ nid, parent uint64 }

// File is a regular file: the first Size bytes of a device from a block on, or
// what overlayfs finds at the path Redirect of a data-only layer. An empty file
// needs neither.
type File struct {
	Size     int64
	Program  bool
	Redirect string
	Device   int // an index of Options.Devices
	Block    int64

	Attributes *Attributes // nil for those of the Options
}

// Attributes are those of a file that is not like the others.
type Attributes struct {
	Owner Owner
	Mode  uint16 // permissions
	Time  int64
	Nanos uint32
}

// Builder writes one image. Directories are filled one at a time, each once,
// in any order: after Begin come the entries, by name in ascending order of
// bytes, and End. It is not safe for concurrent use. The first error stays, and
// WriteTo returns it.
type Builder struct {
	opts      Options
	blockSize int
	devices   []int64 // where each begins
	inodes    []byte  // all of the image up to the blocks
	blocks    []byte
	places    []int // of addresses in inodes that count from the first of blocks
	count     uint64
	links     int // directories in the open one
	open      Dir
	entries   []dirent // of the open directory
	err       error
}

// dirent is an entry of a directory.
type dirent struct {
	name string
	nid  uint64
	kind byte
}

// NewBuilder begins an image, of about so many files and directories.
func NewBuilder(opts Options, about int) *Builder {
	head := superOffset + superLen + deviceLen*len(opts.Devices)
	b := &Builder{opts: opts, blockSize: opts.BlockSize, inodes: make([]byte, head, head+about*compactLen*9/8), blocks: make([]byte, 0, about*compactLen)}
	if n := opts.BlockSize; n < 512 || n > 4096 || n&(n-1) != 0 {
		b.fail(fmt.Errorf("%d is no block size", n))
		b.blockSize = 512
	}
	at := int64(firstDevice)
	for _, blocks := range opts.Devices {
		b.devices = append(b.devices, at)
		at += blocks
	}
	if at > nowhere {
		b.fail(errors.New("the devices are too large"))
	}
	return b
}

func (b *Builder) blocksOf(size int64) int64 {
	return (size + int64(b.blockSize) - 1) / int64(b.blockSize)
}

func (b *Builder) fail(err error) {
	if b.err == nil {
		b.err = fmt.Errorf("make an EROFS image: %w", err)
	}
}

// Root makes the root directory, first of all.
func (b *Builder) Root() Dir {
	nid := b.addDir()
	return Dir{nid: nid, parent: nid}
}

// Begin opens a directory to be filled.
func (b *Builder) Begin(d Dir) { b.open, b.entries, b.links = d, b.entries[:0], 2 }

// Dir adds a directory to the open one.
func (b *Builder) Dir(name string) Dir {
	d := Dir{nid: b.addDir(), parent: b.open.nid}
	b.add(name, d.nid, typeDir)
	b.links++
	return d
}

// File adds a regular file to the open directory.
func (b *Builder) File(name string, f File) {
	n := inode{mode: modeFile | b.opts.FileMode, nlink: 1, size: f.Size, owner: b.opts.FileOwner}
	if f.Program {
		n.mode = modeFile | b.opts.ProgramMode
	}
	if a := f.Attributes; a != nil {
		n.owner, n.mode, n.hasTime, n.time, n.nanos = a.Owner, modeFile|a.Mode, true, a.Time, a.Nanos
	}
	switch {
	case f.Size == 0:
	case f.Redirect != "":
		b.add(name, b.addRedirect(n, f), typeFile)
		return
	case f.Device < 0 || f.Device >= len(b.devices) || f.Block < 0 || f.Block+b.blocksOf(f.Size) > b.opts.Devices[f.Device]:
		b.fail(fmt.Errorf("file %q is not inside of device %d", name, f.Device))
	default:
		n.content = uint32(b.devices[f.Device] + f.Block)
	}
	nid, _ := b.addInode(&n, 0)
	b.add(name, nid, typeFile)
}

// addRedirect makes a file whose size is known and whose contents are elsewhere.
func (b *Builder) addRedirect(n inode, f File) uint64 {
	if most := int64(b.blockSize) << oneChunk; f.Size > most {
		b.fail(fmt.Errorf("%s has %d bytes, at most %d are possible", f.Redirect, f.Size, most))
	}
	n.layout, n.content, n.xattrLen = layoutChunks, oneChunk, redirectLen(f.Redirect)
	nid, body := b.addInode(&n, n.xattrLen+4)
	putRedirect(body, f.Redirect)
	binary.LittleEndian.PutUint32(body[n.xattrLen:], nowhere)
	return nid
}

// Symlink adds a symbolic link to the open directory.
func (b *Builder) Symlink(name, target string) {
	n := inode{mode: modeSymlink | 0o777, nlink: 1, size: int64(len(target)), owner: b.opts.FileOwner}
	if n.len()+len(target) > b.blockSize {
		n.content = uint32(len(b.blocks) / b.blockSize)
		b.blocks = append(b.blocks, target...)
		b.blocks = pad(b.blocks, b.blockSize)
		nid, _ := b.addInode(&n, 0)
		b.places = append(b.places, int(nid<<slotBits)+16)
		b.add(name, nid, typeSymlink)
		return
	}
	n.layout = layoutInline
	if left := b.blockSize - len(b.inodes)%b.blockSize; left < n.len()+len(target) {
		b.inodes = pad(b.inodes, b.blockSize)
	}
	nid, body := b.addInode(&n, len(target))
	copy(body, target)
	b.add(name, nid, typeSymlink)
}

// addDir makes an inode that End completes.
func (b *Builder) addDir() uint64 {
	nid, _ := b.addInode(&inode{mode: modeDir | b.opts.DirMode, owner: b.opts.DirOwner}, 0)
	b.places = append(b.places, int(nid<<slotBits)+16)
	return nid
}

// addInode appends an inode with room for what follows it.
func (b *Builder) addInode(n *inode, bodyLen int) (nid uint64, body []byte) {
	if !n.hasTime {
		n.time = b.opts.Time
	}
	b.inodes = pad(b.inodes, 1<<slotBits)
	at, end := len(b.inodes), len(b.inodes)+n.len()
	b.inodes = grow(b.inodes, n.len()+bodyLen)
	nid = uint64(at) >> slotBits
	n.put(b.inodes[at:], nid)
	b.count++
	return nid, b.inodes[end:]
}

func (b *Builder) add(name string, nid uint64, kind byte) {
	if n := len(b.entries); n > 0 && b.entries[n-1].name >= name {
		b.fail(fmt.Errorf("%q comes after %q", name, b.entries[n-1].name))
	}
	b.entries = append(b.entries, dirent{name: name, nid: nid, kind: kind})
}

// WriteTo writes the image, after which the Builder cannot be used any more.
func (b *Builder) WriteTo(w io.Writer) (int64, error) {
	b.inodes = pad(b.inodes, b.blockSize)
	first := len(b.inodes) / b.blockSize
	blocks := first + len(b.blocks)/b.blockSize
	if blocks > firstDevice {
		b.fail(fmt.Errorf("it has %d blocks, more than %d", blocks, firstDevice))
	}
	if b.err != nil {
		return 0, b.err
	}
	for _, at := range b.places {
		le := binary.LittleEndian
		le.PutUint32(b.inodes[at:], le.Uint32(b.inodes[at:])+uint32(first))
	}
	root := uint64(superOffset+superLen+deviceLen*len(b.devices)) >> slotBits
	super{blockBits: uint8(bits.TrailingZeros(uint(b.blockSize))), root: root, inodes: b.count, time: b.opts.Time, blocks: uint32(blocks), devices: len(b.devices)}.put(b.inodes[superOffset:])
	for i, at := range b.devices {
		putDevice(b.inodes[superOffset+superLen+i*deviceLen:], uint32(b.opts.Devices[i]), uint32(at))
	}
	n, err := w.Write(b.inodes)
	if err != nil {
		return int64(n), err
	}
	m, err := w.Write(b.blocks)
	return int64(n + m), err
}

// pad fills b up with zeros to a multiple of n.
func pad(b []byte, n int) []byte { return grow(b, (n-len(b)%n)%n) }

// grow appends n zeros.
func grow(b []byte, n int) []byte { return append(b, make([]byte, n)...) }
