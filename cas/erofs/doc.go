// Package erofs writes file system images that hold names, modes and sizes, but
// no contents: EROFS images, which Linux mounts, of which each regular file is
// either a range of blocks of another file (a device, in the words of EROFS) or
// a file elsewhere that overlayfs finds by a path (a redirect).
//
// It owns the format. It never opens a file, mounts anything or knows what the
// names and contents are; the caller sees to it that names are legal.
//
// # The image
//
// All numbers are little-endian; a nid, the number of an inode, is its offset in
// the image in units of 32 bytes.
//
//	0     1024 zero bytes
//	1024  superblock, 128 bytes
//	1152  device slots, 128 bytes each: the length of the device in blocks, and
//	      the block address at which it appears. The first is at block 1<<24,
//	      behind all that an image can be; the others follow.
//	then  inodes: the root's first, those of a directory's entries together.
//	      Each takes 32 bytes (64 if a number of its does not fit, or if it has
//	      a time of its own), and right after it what belongs to it:
//	        a directory      nothing; its entries are in blocks of their own
//	        a symbolic link  the target, if that leaves both in one block
//	        a file           nothing: its contents begin at a block of a device
//	        a redirect       the extended attributes trusted.overlay.metacopy
//	                         (empty) and trusted.overlay.redirect (the path), and
//	                         a chunk map of one entry that says that there is
//	                         nothing here
//	      The next inode begins at the next multiple of 32 bytes.
//	then  blocks: of directories, and of targets that did not fit.
//
// A block of a directory is a list of 12 bytes for each entry (nid, offset of the
// name in the block, type), then the names. Entries are in order of names, "." and
// ".." among them.
//
// Everything has the one time of modification that the superblock tells, but for
// files with attributes of their own.
//
// Invariants:
//   - The same calls give the same bytes.
//   - The memory for an image is about the image, and no more.
package erofs
