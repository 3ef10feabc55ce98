package disk

import (
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"strconv"
	"strings"
)

// formatVersion is the layout that this code reads and writes. The one before had no packs
// of small blobs, and in the one before that other keys led to small blobs and records.
const (
	formatVersion    = 4
	noPacksVersion   = 3
	otherKeysVersion = 2
)

const formatName = "hearth-cas"

// claimFormat makes sure that the directory is a store that this code
// understands, or makes it one if it is empty.
func claimFormat(l layout, log *slog.Logger) error {
	data, err := os.ReadFile(l.format())
	if errors.Is(err, fs.ErrNotExist) {
		return createFormat(l)
	}
	if err != nil {
		return err
	}
	text, ok := strings.CutPrefix(strings.TrimSpace(string(data)), formatName+" ")
	version, err := strconv.Atoi(text)
	switch {
	case !ok || err != nil || version < 1:
		return fmt.Errorf("%s says %.40q, which is no version of a store: delete the directory or choose another", l.format(), data)
	case version == noPacksVersion: // what lies there is read as it is
		return writeFormat(l)
	case version == otherKeysVersion:
		return upgrade(l, log)
	case version < formatVersion:
		return fmt.Errorf("%s is a store of format %d, which no released hearth wrote and this one (format %d) does not read: delete the directory, all in it can be had again",
			l.dir, version, formatVersion)
	case version > formatVersion:
		return fmt.Errorf("%s was written by a newer hearth (format %d, this one knows %d): run that one, or choose another directory",
			l.dir, version, formatVersion)
	}
	return nil
}

// upgrade drops what lies under other keys. After a crash in it, it is done again.
func upgrade(l layout, log *slog.Logger) error {
	log.Warn("the small blobs and action results in the store are of an older format and were dropped; uploads heal it", slog.String("dir", l.values()))
	if err := removeAll(l.values(), "*"); err != nil {
		return err
	}
	return writeFormat(l)
}

func writeFormat(l layout) error {
	return writeAtomically(l.format(), fmt.Appendf(nil, "%s %d\n", formatName, formatVersion))
}

func createFormat(l layout) error {
	entries, err := os.ReadDir(l.dir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if l.foreign(e.Name()) {
			return fmt.Errorf("%s is not empty (%q is in it) and is no store: choose an empty directory", l.dir, e.Name())
		}
	}
	return writeFormat(l)
}
