package execserver

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
)

// oomScore makes commands what the kernel ends first when memory runs out, be
// it the container's or the host's. Without it the kernel ends the largest
// process, and where a command is many small ones that is the server itself:
// nobody would be left to tell what happened.
//
// A process gets the score of the one that forks it, so the server takes the
// commands' score for as long as a fork takes. To raise a score needs no
// capability, and to take that back does not either.
type oomScore struct {
	file *os.File
	own  []byte
}

// mostExpendable is what no score is above.
const mostExpendable = "1000"

// openOOMScore returns nil where the score cannot be changed; then it is left
// alone. That there is no /proc is no error.
func openOOMScore() (*oomScore, error) {
	const path = "/proc/self/oom_score_adj"
	own, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	file, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		return nil, err
	}
	s := &oomScore{file: file, own: bytes.TrimSpace(own)}
	if err := s.raise(); err != nil {
		return nil, closing(file, err)
	}
	if err := s.lower(); err != nil {
		return nil, closing(file, err)
	}
	return s, nil
}

func (s *oomScore) raise() error { return s.set([]byte(mostExpendable)) }

func (s *oomScore) lower() error {
	if s == nil {
		return nil
	}
	return s.set(s.own)
}

func (s *oomScore) set(score []byte) error {
	if s == nil {
		return nil
	}
	if _, err := s.file.WriteAt(score, 0); err != nil {
		return fmt.Errorf("change what the kernel ends first when memory runs out: %w", err)
	}
	return nil
}

func (s *oomScore) close() error {
	if s == nil {
		return nil
	}
	return s.file.Close()
}
