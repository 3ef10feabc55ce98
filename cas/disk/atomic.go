package disk

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
)

const atomicSuffix = ".new"

// writeAtomically replaces a small file: after a crash it has either the old
// content or the new one, and after the return the new one.
func writeAtomically(path string, data []byte) error {
	err := func() error {
		f, err := os.OpenFile(path+atomicSuffix, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
		if err != nil {
			return err
		}
		_, err = f.Write(data)
		if err == nil {
			err = f.Sync()
		}
		if err := errors.Join(err, f.Close()); err != nil {
			return err
		}
		if err := os.Rename(path+atomicSuffix, path); err != nil {
			return err
		}
		return syncDir(filepath.Dir(path))
	}()
	if err != nil {
		return fmt.Errorf("write %s: %w", path, spaceError(err))
	}
	return nil
}

func syncDir(path string) error {
	dir, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
}
