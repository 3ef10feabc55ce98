package disk

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hearth-build/hearth/cas"
)

func TestOptionsValidate(t *testing.T) {
	err := Options{Dir: "relative", MaxBytes: -1, MinFreeBytes: -2, SyncInterval: -3}.Validate()
	for _, want := range []string{`"relative"`, "-1", "-2", "-3ns"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v does not name %s", err, want)
		}
	}
	if err := (Options{}).Validate(); err == nil {
		t.Error("no directory is no error")
	}
	if err := (Options{Dir: "/x"}).Validate(); err != nil {
		t.Error(err)
	}
	if _, err := Open(t.Context(), Options{}); err == nil {
		t.Error("Open does not validate")
	}
}

func TestReopenKeepsBlobs(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "made", "by", "open")
	d := open(t, Options{Dir: dir})
	var all [][]byte
	for i := range uint64(50) {
		all = append(all, random(i, int(i)*2000+1))
		put(t, d.Namespace("n"), all[i])
	}
	before := d.Stats()
	mustClose(t, d)
	d = open(t, Options{Dir: dir})
	after := d.Stats()
	if after.Blobs != 50 || after.Bytes != before.Bytes || after.Unproven != 0 {
		t.Errorf("before %+v, after %+v", before, after)
	}
	for _, data := range all {
		mustHold(t, d.Namespace("n"), data)
	}
}

func TestSecondOpenIsRefused(t *testing.T) {
	d := open(t, Options{})
	_, err := Open(t.Context(), Options{Dir: d.layout.dir})
	if err == nil || !strings.Contains(err.Error(), fmt.Sprintf("in use by process %d", os.Getpid())) {
		t.Errorf("got %v, want one that names this process", err)
	}
	put(t, d.Namespace(""), []byte("the first one goes on"))
	mustClose(t, d)
	open(t, Options{Dir: d.layout.dir})
}

func TestFormat(t *testing.T) {
	for name, tc := range map[string]struct{ file, text, want string }{
		"newer":       {"FORMAT", "hearth-cas 5\n", "newer hearth"},
		"older":       {"FORMAT", "hearth-cas 1\n", "no released hearth"},
		"garbled":     {"FORMAT", "hello\n", "no version"},
		"version 0":   {"FORMAT", "hearth-cas 0\n", "no version"},
		"empty":       {"FORMAT", "", "no version"},
		"not a store": {"thesis.tex", "", `"thesis.tex"`},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			path := filepath.Join(dir, tc.file)
			if err := os.WriteFile(path, []byte(tc.text), 0o600); err != nil {
				t.Fatal(err)
			}
			d, err := Open(t.Context(), Options{Dir: dir})
			if err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("got %v, %v, want an error with %q", d, err, tc.want)
			}
			if data, err := os.ReadFile(path); err != nil || string(data) != tc.text {
				t.Errorf("the file was changed: %q, %v", data, err)
			}
			// The refusal holds nothing: once the cause is gone it opens.
			if err := os.Remove(path); err != nil {
				t.Fatal(err)
			}
			open(t, Options{Dir: dir})
		})
	}
}

// Of a store whose small blobs lie under other keys the files stay.
func TestOlderKeys(t *testing.T) {
	dir := t.TempDir()
	d := open(t, Options{Dir: dir})
	small, large := random(1, 1000), random(2, splitSize)
	put(t, d.Namespace(""), small)
	put(t, d.Namespace(""), large)
	mustClose(t, d)
	format := d.layout.format()
	if err := os.WriteFile(format, []byte("hearth-cas 2\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for range 2 { // what is stored after the upgrade is there after the next start
		d = open(t, Options{Dir: dir})
		mustHold(t, d.Namespace(""), large)
		if text, err := os.ReadFile(format); err != nil || string(text) != "hearth-cas 4\n" {
			t.Errorf("the format is %q, %v", text, err)
		}
		if n := d.Stats().Blobs; n == 1 {
			mustLack(t, d.Namespace(""), cas.SHA256.Sum(small))
			put(t, d.Namespace(""), small)
		}
		mustHold(t, d.Namespace(""), small)
		mustClose(t, d)
	}
}

func TestOpenCleansUp(t *testing.T) {
	d := open(t, Options{})
	s := d.Namespace("")
	whole, short := random(1, 100_000), random(2, 100_000)
	put(t, s, whole)
	shortPath := s.filePath(put(t, s, short))
	mustClose(t, d)
	strange := filepath.Join(filepath.Dir(shortPath), "README")
	for _, err := range []error{
		os.Truncate(shortPath, 99_999),
		os.WriteFile(filepath.Join(d.layout.tmp(), "left"), []byte("half of a bl"), 0o600),
		os.WriteFile(strange, nil, 0o600),
		os.WriteFile(shortPath+execSuffix, nil, 0o600),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	d = open(t, Options{Dir: d.layout.dir})
	mustHaveNoTemporaryFile(t, d)
	mustHold(t, d.Namespace(""), whole)
	mustLack(t, d.Namespace(""), cas.SHA256.Sum(short))
	for path, want := range map[string]error{shortPath: os.ErrNotExist, shortPath + execSuffix: os.ErrNotExist, strange: nil} {
		if _, err := os.Stat(path); !errors.Is(err, want) {
			t.Errorf("%s: %v, want %v", path, err, want)
		}
	}
}

func TestBudgetFromTheFileSystem(t *testing.T) {
	d := open(t, Options{})
	free, err := statfs(int(d.dir.Fd()))
	if err != nil {
		t.Fatal(err)
	}
	if got, want := d.Stats().MaxBytes, free.bytes/5*4; got < want*9/10 || got > want*11/10 {
		t.Errorf("budget %s of %s free", sizeText(got), sizeText(free.bytes))
	}
	if d.space.minBytes <= 0 || d.space.minBytes > 1<<30 {
		t.Errorf("%s are kept free", sizeText(d.space.minBytes))
	}
}

func TestSyncPoints(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		start := time.Now()
		d := open(t, Options{Dir: dir, SyncInterval: time.Minute})
		mustState(t, d, state{})
		wait := func(d time.Duration) { <-time.After(d); synctest.Wait() }
		wait(90 * time.Second)
		mustState(t, d, state{}) // nothing was written
		put(t, d.Namespace(""), []byte("x"))
		wait(time.Minute)
		mustState(t, d, state{Synced: start.Add(2 * time.Minute)})
		wait(2 * time.Minute)
		mustState(t, d, state{Synced: start.Add(2 * time.Minute)})
		mustClose(t, d)
		mustState(t, d, state{Synced: start.Add(4*time.Minute + 30*time.Second), Clean: true})
	})
}

func mustState(t *testing.T, d *Disk, want state) {
	t.Helper()
	got, err := readState(d.layout)
	if err != nil || got.Clean != want.Clean || !got.Synced.Equal(want.Synced) {
		t.Errorf("state %+v, %v, want %+v", got, err, want)
	}
}

// An upload that brings nothing any more does not hold up another client.
func TestStalledUploadIsTakenOver(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		d := open(t, Options{Dir: dir})
		s := d.Namespace("")
		data := random(1, 3<<20)
		digest := cas.SHA256.Sum(data)
		resume, first := make(chan struct{}), make(chan error)
		go func() {
			stall := readerFunc(func([]byte) (int, error) { <-resume; return 0, nil })
			first <- s.Put(t.Context(), cas.NewContent(digest, &sequence{pieces: [][]byte{data[:1<<20], nil, data[1<<20:]}, pause: stall}))
		}()
		synctest.Wait()
		start := time.Now()
		if err := s.Put(t.Context(), cas.Checked(digest, data)); err != nil {
			t.Fatal(err)
		}
		if waited := time.Since(start); waited < stallTime || waited > 2*stallTime {
			t.Errorf("waited %v for a stalled upload", waited)
		}
		mustHold(t, s, data)
		close(resume)
		if err := <-first; err != nil {
			t.Errorf("the stalled upload: %v", err)
		}
		mustHold(t, s, data)
		if got := d.Stats(); got.Blobs != 1 || got.Reserved != 0 || len(d.index.flights) != 0 {
			t.Errorf("%+v, %d flights", got, len(d.index.flights))
		}
	})
}

// A slow one that brings something is waited for.
func TestSlowUploadIsWaitedFor(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		s := open(t, Options{Dir: dir}).Namespace("")
		data := random(1, 40_000)
		digest := cas.SHA256.Sum(data)
		first := make(chan error)
		go func() {
			slow := &sequence{pause: readerFunc(func([]byte) (int, error) { <-time.After(stallTime / 2); return 0, nil })}
			for i := range 10 {
				slow.pieces = append(slow.pieces, nil, data[i*4000:(i+1)*4000])
			}
			first <- s.Put(t.Context(), cas.NewContent(digest, slow))
		}()
		synctest.Wait()
		unread := readerFunc(func([]byte) (int, error) { return 0, errors.New("the content was read") })
		if err := s.Put(t.Context(), cas.NewContent(digest, unread)); err != nil {
			t.Error(err)
		}
		if err := <-first; err != nil {
			t.Error(err)
		}
	})
}

// sequence reads piece after piece; an empty piece is a pause.
type sequence struct {
	pieces [][]byte
	pause  readerFunc
}

func (s *sequence) Read(p []byte) (int, error) {
	if len(s.pieces) == 0 {
		return 0, io.EOF
	}
	piece := s.pieces[0]
	if len(piece) == 0 {
		s.pieces = s.pieces[1:]
		return s.pause(p)
	}
	n := copy(p, piece)
	if s.pieces[0] = piece[n:]; n == len(piece) {
		s.pieces = s.pieces[1:]
	}
	return n, nil
}
