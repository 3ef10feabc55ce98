package disk

import (
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"strings"
	"sync"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// spares are files of values that the library has given up, for those that it writes next:
// they have pages and blocks already, which the kernel would take away and hand out again.
// The library removes a file once nobody reads it.
type spares struct {
	mu    sync.Mutex // guards all below
	names []string
	made  int
	off   int // how many ask that none are kept
}

const (
	// maxSpares is how many there are; a store that evicts writes one for each that goes.
	maxSpares = 2
	// valuesSuffix ends the names of files of values, sparePrefix begins those of spares.
	valuesSuffix = ".blob"
	sparePrefix  = "spare-"
)

// keep makes a spare of a file that is to be removed, unless there are enough.
func (s *spares) keep(fs vfs.FS, name string) (kept bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.off > 0 || len(s.names) == maxSpares || !strings.HasSuffix(name, valuesSuffix) {
		return false
	}
	s.made++
	spare := filepath.Join(filepath.Dir(name), fmt.Sprint(sparePrefix, s.made))
	if fs.Rename(name, spare) != nil {
		return false // the removal tells what is wrong
	}
	s.names = append(s.names, spare)
	return true
}

// take returns a spare for a file that is to be written, if there is one.
func (s *spares) take(name string) (spare string, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	last := len(s.names) - 1
	if last < 0 || !strings.HasSuffix(name, valuesSuffix) {
		return "", false
	}
	spare, s.names = s.names[last], s.names[:last]
	return spare, true
}

// pause has no spares kept until resume.
func (s *spares) pause() (resume func()) {
	s.count(1)
	return func() { s.count(-1) }
}

func (s *spares) count(n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.off += n
}

// remove gives the space of all spares back.
func (s *spares) remove(fsys vfs.FS) (err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, name := range s.names {
		if e := fsys.Remove(name); !errors.Is(e, fs.ErrNotExist) {
			err = errors.Join(err, e)
		}
	}
	s.names = nil
	return err
}
