package tree

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"github.com/hearth-build/hearth/cas"
)

const (
	// packBlock is the unit of places in a pack.
	packBlock = 512
	// packBytes is what makes a pack full. One larger blob has a pack of its own.
	packBytes = 64 << 20
	// minCost is what the smallest blob counts, since it takes memory as well.
	minCost = 1 << 10
)

// pack is a file that holds the contents of many blobs, one after the other. It
// only grows. All but file and path is guarded by the shelf's mutex.
type pack struct {
	file *os.File
	path string

	blobs  []cas.Digest
	blocks int64
	cost   int64 // its bytes, and what its blobs take in memory
	users  int   // holdings
	filled bool
}

func newPack(dir string, number int) (*pack, error) {
	path := filepath.Join(dir, fmt.Sprint(number))
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return nil, fmt.Errorf("make a file for small inputs: %w", err)
	}
	return &pack{file: f, path: path}, nil
}

func blocksOf(size int64) int64 { return (size + packBlock - 1) / packBlock }

// write writes at a place that was reserved.
func (p *pack) write(data []byte, block int64) error {
	if _, err := p.file.WriteAt(data, block*packBlock); err != nil {
		if errors.Is(err, unix.ENOSPC) || errors.Is(err, unix.EDQUOT) {
			return fmt.Errorf("%w for small inputs: %w", cas.ErrNoSpace, err)
		}
		return fmt.Errorf("write small inputs: %w", err)
	}
	return nil
}

func (p *pack) remove() error {
	return errors.Join(p.file.Close(), os.Remove(p.path))
}
