package erofs

import "encoding/binary"

const (
	superOffset = 1024
	superLen    = 128
	deviceLen   = 128
	magic       = 0xE0F5E1E2

	featureChunkedFile = 0x4
	featureDeviceTable = 0x8

	// firstDevice is the block address of the first device, behind all that is in
	// an image.
	firstDevice = 1 << 24

	slotBits    = 5 // of the unit of nids
	compactLen  = 32
	extendedLen = 64

	layoutPlain  = 0 << 1 // from a block on
	layoutInline = 2 << 1 // right after the inode
	layoutChunks = 4 << 1
	isExtended   = 1

	// oneChunk makes chunks of so many blocks, as a power of two, that every file
	// has but one.
	oneChunk = 31
	// nowhere is the address of contents that are not in the image.
	nowhere = 0xFFFFFFFF

	xattrHeaderLen = 12
	xattrEntryLen  = 4
	xattrTrusted   = 4 // stands for "trusted."
	xattrMetacopy  = "overlay.metacopy"
	xattrRedirect  = "overlay.redirect"

	direntLen = 12

	typeFile    = 1
	typeDir     = 2
	typeSymlink = 7

	modeFile    = 0o100000
	modeDir     = 0o040000
	modeSymlink = 0o120000
)

// super is what of the superblock is not the same in all images.
type super struct {
	blockBits    uint8
	root, inodes uint64
	time         int64
	blocks       uint32
	devices      int
}

func (s super) put(b []byte) {
	le := binary.LittleEndian
	features := uint32(featureChunkedFile)
	le.PutUint32(b[0:], magic)
	b[12] = s.blockBits
	le.PutUint16(b[14:], uint16(s.root))
	le.PutUint64(b[16:], s.inodes)
	le.PutUint64(b[24:], uint64(s.time))
	le.PutUint32(b[36:], s.blocks)
	if s.devices > 0 {
		features |= featureDeviceTable
		le.PutUint16(b[86:], uint16(s.devices))
		le.PutUint16(b[88:], (superOffset+superLen)/deviceLen)
	}
	le.PutUint32(b[80:], features)
}

// putDevice fills a device slot.
func putDevice(b []byte, blocks, at uint32) {
	binary.LittleEndian.PutUint32(b[64:], blocks)
	binary.LittleEndian.PutUint32(b[68:], at)
}

// inode is one of any kind.
type inode struct {
	layout   uint16
	mode     uint16
	nlink    uint32
	size     int64
	content  uint32 // a block address, or the form of the chunks
	owner    Owner
	xattrLen int
	hasTime  bool // of its own
	time     int64
	nanos    uint32
}

// extended inodes are for what needs more bits. A compact one has the
// superblock's time.
func (n *inode) extended() bool {
	return n.hasTime || n.size > 0xFFFFFFFF || n.owner.UID > 0xFFFF || n.owner.GID > 0xFFFF
}

func (n *inode) len() int {
	if n.extended() {
		return extendedLen
	}
	return compactLen
}

func (n *inode) put(b []byte, number uint64) {
	le := binary.LittleEndian
	le.PutUint16(b[0:], n.layout)
	if n.xattrLen > 0 {
		le.PutUint16(b[2:], uint16(1+(n.xattrLen-xattrHeaderLen)/4))
	}
	le.PutUint16(b[4:], n.mode)
	le.PutUint32(b[16:], n.content)
	le.PutUint32(b[20:], uint32(number))
	if !n.extended() {
		le.PutUint16(b[6:], uint16(n.nlink))
		le.PutUint32(b[8:], uint32(n.size))
		le.PutUint16(b[24:], uint16(n.owner.UID))
		le.PutUint16(b[26:], uint16(n.owner.GID))
		return
	}
	le.PutUint16(b[0:], n.layout|isExtended)
	le.PutUint64(b[8:], uint64(n.size))
	le.PutUint32(b[24:], n.owner.UID)
	le.PutUint32(b[28:], n.owner.GID)
	le.PutUint64(b[32:], uint64(n.time))
	le.PutUint32(b[40:], n.nanos)
	le.PutUint32(b[44:], n.nlink)
}

// redirectLen is the length of the extended attributes of a redirect.
func redirectLen(path string) int {
	return xattrHeaderLen + xattrLen(xattrMetacopy, "") + xattrLen(xattrRedirect, path)
}

func xattrLen(name, value string) int { return (xattrEntryLen + len(name) + len(value) + 3) &^ 3 }

// putRedirect fills the extended attributes of a redirect.
func putRedirect(b []byte, path string) {
	b = b[xattrHeaderLen:]
	b = b[putXattr(b, xattrMetacopy, ""):]
	putXattr(b, xattrRedirect, path)
}

func putXattr(b []byte, name, value string) int {
	b[0], b[1] = byte(len(name)), xattrTrusted
	binary.LittleEndian.PutUint16(b[2:], uint16(len(value)))
	copy(b[xattrEntryLen:], name)
	copy(b[xattrEntryLen+len(name):], value)
	return xattrLen(name, value)
}
