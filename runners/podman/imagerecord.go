package podman

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"
)

// imageRecords remembers which of podman's images hearth pulled, in a directory,
// so that a later hearth knows it, too, and so does a doctor beside a running one:
// a file per image, whose time is when the image was wanted last, and one per pull
// that has not ended.
type imageRecords struct {
	dir string

	mu sync.Mutex // held while a file is read and written
}

// imageRecord is what is known of an image that hearth pulled.
type imageRecord struct {
	// Names that it was pulled by.
	Names []string `json:"names"`
	// Private: each pull of it had credentials. Who wants it must have some that
	// its registry agrees to, although it is here.
	Private bool `json:"private"`
}

// pendingPull is a pull that is under way, or was when hearth ended.
type pendingPull struct {
	Name    string `json:"name"`
	Private bool   `json:"private"`

	path string
}

const (
	recordSuffix  = ".json"
	pendingPrefix = "pulling-"
)

func (r *imageRecords) path(id string) string { return filepath.Join(r.dir, id+recordSuffix) }

// begin notes a pull before it begins: whoever finds the image after a crash must
// know that it may be private.
func (r *imageRecords) begin(name string, private bool) (pendingPull, error) {
	p := pendingPull{Name: name, Private: private}
	f, err := os.CreateTemp(r.dir, pendingPrefix+"*")
	if err != nil {
		return p, fmt.Errorf("note the pull of an image: %w", err)
	}
	p.path = f.Name()
	text, err := json.Marshal(p)
	if err == nil {
		_, err = f.Write(text)
	}
	if err := errors.Join(err, f.Sync(), f.Close()); err != nil {
		return p, errors.Join(fmt.Errorf("note the pull of an image: %w", err), os.Remove(p.path))
	}
	return p, syncDir(r.dir)
}

// end notes that a pull brought nothing.
func (r *imageRecords) end(p pendingPull) error {
	if err := os.Remove(p.path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("note the end of a pull: %w", err)
	}
	return nil
}

// pulled notes which image a pull brought. One that was on the host already, and
// not because of hearth, stays what it is: somebody else's, and for everybody.
func (r *imageRecords) pulled(p pendingPull, id string, foreign bool) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	record, known, err := r.read(id)
	if err != nil {
		return err
	}
	if !known && foreign {
		// Or a pull whose end nobody saw has brought it.
		others, err := r.pending()
		if err != nil || !slices.ContainsFunc(others, func(o pendingPull) bool { return o.Name == p.Name && o.path != p.path }) {
			return errors.Join(err, r.end(p))
		}
	}
	if !known {
		record.Private = true
	}
	// What anybody may have is not private, whoever else gave a password for it.
	record.Private = record.Private && p.Private
	if !slices.Contains(record.Names, p.Name) {
		record.Names = append(record.Names, p.Name)
	}
	text, err := json.Marshal(record)
	if err != nil {
		return err
	}
	if err := replaceFile(r.path(id), text); err != nil {
		return fmt.Errorf("note what image was pulled: %w", err)
	}
	return r.end(p)
}

// read returns the record of an image, if hearth pulled it.
func (r *imageRecords) read(id string) (record imageRecord, known bool, err error) {
	text, err := os.ReadFile(r.path(id))
	if errors.Is(err, fs.ErrNotExist) {
		return imageRecord{}, false, nil
	}
	if err == nil {
		err = json.Unmarshal(text, &record)
	}
	if err != nil {
		return imageRecord{}, false, fmt.Errorf("who may use an image is not known, since %s cannot be read; "+
			"remove the image with `podman rmi %s`, and then that file: %w", r.path(id), id, err)
	}
	return record, true, nil
}

// private tells whether an image that a name led to may only be used by those to
// whom its registry gives it.
func (r *imageRecords) private(name, id string) (bool, error) {
	pending, err := r.pending()
	if err != nil {
		return false, err
	}
	for _, p := range pending {
		if p.Private && p.Name == name {
			return true, nil
		}
	}
	record, _, err := r.read(id)
	return record.Private, err
}

// pending lists the pulls that have not ended.
func (r *imageRecords) pending() ([]pendingPull, error) {
	entries, err := os.ReadDir(r.dir)
	if err != nil {
		return nil, fmt.Errorf("which images are being pulled: %w", err)
	}
	var found []pendingPull
	for _, entry := range entries {
		if !strings.HasPrefix(entry.Name(), pendingPrefix) {
			continue
		}
		path := filepath.Join(r.dir, entry.Name())
		text, err := os.ReadFile(path)
		if errors.Is(err, fs.ErrNotExist) {
			continue // it has ended since
		}
		p := pendingPull{path: path}
		if err != nil {
			return nil, fmt.Errorf("which images are being pulled: %w", err)
		}
		if json.Unmarshal(text, &p) != nil {
			continue // it is being written, or was torn by a crash: before its pull
		}
		found = append(found, p)
	}
	return found, nil
}

// use notes that an image is wanted, if hearth pulled it.
func (r *imageRecords) use(id string) error {
	err := os.Chtimes(r.path(id), time.Time{}, time.Now())
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("note the use of an image: %w", err)
	}
	return nil
}

// ownImage is an image that hearth pulled.
type ownImage struct {
	imageRecord

	id   string
	used time.Time
}

// list returns the images that hearth pulled, the longest unwanted first.
func (r *imageRecords) list() ([]ownImage, error) {
	entries, err := os.ReadDir(r.dir)
	if err != nil {
		return nil, fmt.Errorf("which images hearth pulled: %w", err)
	}
	var all []ownImage
	for _, entry := range entries {
		id, ok := strings.CutSuffix(entry.Name(), recordSuffix)
		if !ok {
			continue
		}
		record, known, err := r.read(id)
		if err != nil {
			return nil, err
		}
		info, err := entry.Info()
		if !known || errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, err
		}
		all = append(all, ownImage{imageRecord: record, id: id, used: info.ModTime()})
	}
	slices.SortFunc(all, func(a, b ownImage) int { return a.used.Compare(b.used) })
	return all, nil
}

// forget drops the record of an image that is gone.
func (r *imageRecords) forget(id string) error {
	if err := os.Remove(r.path(id)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("forget an image: %w", err)
	}
	return nil
}

// replaceFile writes a file whole, or leaves the old one.
func replaceFile(path string, text []byte) error {
	fresh := path + ".new"
	f, err := os.OpenFile(fresh, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(text)
	if err := errors.Join(err, f.Sync(), f.Close()); err != nil {
		return err
	}
	if err := os.Rename(fresh, path); err != nil {
		return err
	}
	return syncDir(filepath.Dir(path))
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
