package disk

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"time"
)

// state is what a Disk says about itself on disk.
type state struct {
	// Clean: the store was closed, and all that is in it is durable.
	Clean bool `json:"clean"`
	// Synced: what was written before this time is durable.
	Synced time.Time `json:"synced"`
}

// clockMargin is by how much a file's time may be behind the clock that the
// sync point was read from.
const clockMargin = 2 * time.Second

// suspectFrom returns the time from which on files have to be checked.
func (s state) suspectFrom() (from time.Time, any bool) {
	return s.Synced.Add(-clockMargin), !s.Clean
}

// readState returns the state of the last run. If there is none, or none that
// makes sense, nothing is trusted.
func readState(l layout) (state, error) {
	var s state
	data, err := os.ReadFile(l.state())
	if errors.Is(err, fs.ErrNotExist) {
		return state{}, nil
	}
	if err != nil {
		return state{}, err
	}
	if err := json.Unmarshal(data, &s); err != nil {
		return state{}, nil // a torn state is an unclean stop, which the zero state says
	}
	return s, nil
}

func writeState(l layout, s state) error {
	data, err := json.Marshal(s)
	if err != nil {
		return fmt.Errorf("encode the state of the store: %w", err)
	}
	return writeAtomically(l.state(), append(data, '\n'))
}
