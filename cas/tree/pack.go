package tree

import (
	"errors"
	"fmt"
	"os"

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
// only grows. What is below is guarded by the shelf's mutex.
type pack struct {
	file   *os.File
	device *os.File // by which it is mounted: the file, or a loop device

	blobs  []cas.Digest
	blocks int64
	cost   int64 // its bytes, and what its blobs take in memory
	users  int   // holdings
	filled bool
}

func newPack(path string, size int64, loops bool) (*pack, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return nil, fmt.Errorf("make a file for small inputs: %w", err)
	}
	p := &pack{file: f, device: f}
	// A device has to have its length from the start. What is not written takes no
	// space.
	if err = f.Truncate(max(packBytes, blocksOf(size)*packBlock)); err == nil && loops {
		p.device, err = openLoop(path)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("make a file for small inputs: %w", err), f.Close(), os.Remove(path))
	}
	return p, nil
}

func blocksOf(size int64) int64 { return (size + packBlock - 1) / packBlock }

// write writes at a place that was reserved.
func (p *pack) write(data []byte, block int64) error {
	if _, err := p.file.WriteAt(data, block*packBlock); err != nil {
		return fmt.Errorf("write small inputs: %w", spaceError(err))
	}
	return nil
}

// spaceError makes the lack of space what a store calls it.
func spaceError(err error) error {
	if errors.Is(err, unix.ENOSPC) || errors.Is(err, unix.EDQUOT) {
		return fmt.Errorf("%w: %w", cas.ErrNoSpace, err)
	}
	return err
}

func (p *pack) remove() error {
	errs := []error{p.file.Close(), os.Remove(p.file.Name())}
	if p.device != p.file {
		errs = append(errs, p.device.Close())
	}
	return errors.Join(errs...)
}
