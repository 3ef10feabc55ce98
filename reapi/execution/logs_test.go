package execution

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hearth-build/hearth/cas"
	"github.com/hearth-build/hearth/cas/memory"
)

// endedLog is the log of an action that printed text, and has ended.
func endedLog(t *testing.T, logs *Logs, text string) *Log {
	t.Helper()
	store := memory.New(1 << 20)
	p := newPrinted(t.TempDir(), 1<<20)
	stdout, stderr := logs.open(p, store)
	if _, err := io.WriteString(p.stdout, text); err != nil {
		t.Fatal(err)
	}
	if _, err := p.stdout.store(t.Context(), store, cas.SHA256); err != nil {
		t.Fatal(err)
	}
	p.close()
	logs.end(stdout, stderr)
	return stdout
}

func readLog(t *testing.T, log *Log, offset int64) (string, error) {
	t.Helper()
	var b strings.Builder
	err := log.Follow(t.Context(), offset, make([]byte, 3), func(p []byte) error {
		_, err := b.Write(p)
		return err
	})
	return b.String(), err
}

// A log outlives its action for a minute, and takes next to nothing meanwhile.
func TestLogsAreKeptForAWhile(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var logs Logs
		log := endedLog(t, &logs, "some text")
		<-time.After(logRetention - 1)
		found, ok := logs.Find(log.id)
		if !ok || found != log || found.spool.small != nil || found.spool.file != nil {
			t.Fatalf("just before its time is over: %v %v", found, ok)
		}
		if got, err := readLog(t, found, 5); got != "text" || err != nil {
			t.Errorf("%q %v", got, err)
		}
		<-time.After(1)
		if _, ok := logs.Find(log.id); ok {
			t.Error("it is there after its time")
		}
		endedLog(t, &logs, "x")
		if len(logs.byID) != 2 || len(logs.ended) != 2 {
			t.Errorf("%d names, %d ended: the old ones were not forgotten", len(logs.byID), len(logs.ended))
		}
	})
}

func TestLogsAreBounded(t *testing.T) {
	var logs Logs
	running := newPrinted(t.TempDir(), 10)
	live, _ := logs.open(running, memory.New(1))
	first := endedLog(t, &logs, "x")
	for range maxEndedLogs {
		p := newPrinted("", 1)
		out, errOut := logs.open(p, nil)
		p.close()
		logs.end(out, errOut)
	}
	if _, ok := logs.Find(first.id); ok || len(logs.byID) != maxEndedLogs+2 || len(logs.ended) != maxEndedLogs {
		t.Errorf("%d names, %d ended", len(logs.byID), len(logs.ended))
	}
	if _, ok := logs.Find(live.id); !ok {
		t.Error("the log of a running action was forgotten")
	}
	running.close()
}

func TestLogIsLost(t *testing.T) {
	var logs Logs
	p := newPrinted(t.TempDir(), 100)
	stdout, stderr := logs.open(p, memory.New(1))
	if _, err := io.WriteString(p.stdout, "lost"); err != nil {
		t.Fatal(err)
	}
	p.close()
	logs.end(stdout, stderr)
	for offset, want := range map[int64]error{0: ErrLogLost, 3: ErrLogLost, 4: nil, 5: cas.ErrOutOfRange} {
		if got, err := readLog(t, stdout, offset); !errors.Is(err, want) || (err == nil) != (want == nil) || got != "" {
			t.Errorf("from %d: %q, %v, want %v", offset, got, err, want)
		}
	}
}

// Readers see what was written and nothing else, in whatever way the two meet.
func TestLogFollowedWhileItGrows(t *testing.T) {
	store := memory.New(64 << 20)
	p := newPrinted(t.TempDir(), 64<<20)
	var logs Logs
	log, other := logs.open(p, store)
	var want strings.Builder
	for i := range 20_000 {
		fmt.Fprintf(&want, "line %d\n", i)
	}
	var readers sync.WaitGroup
	for i := range 4 {
		readers.Go(func() {
			var got strings.Builder
			err := log.Follow(context.Background(), 0, make([]byte, 1<<(4*i)), func(b []byte) error {
				_, err := got.Write(b)
				return err
			})
			if err != nil || got.String() != want.String() {
				t.Errorf("reader %d: %d bytes of %d, %v", i, got.Len(), want.Len(), err)
			}
		})
	}
	for line := range strings.Lines(want.String()) {
		if _, err := io.WriteString(p.stdout, line); err != nil {
			t.Error(err)
		}
	}
	if _, err := p.stdout.store(t.Context(), store, cas.SHA256); err != nil {
		t.Error(err)
	}
	p.close()
	logs.end(log, other)
	readers.Wait()
}

func TestLogReaderGivesUp(t *testing.T) {
	var logs Logs
	p := newPrinted(t.TempDir(), 100)
	defer p.close()
	log, _ := logs.open(p, memory.New(1))
	ctx, cancel := context.WithCancelCause(t.Context())
	gone := errors.New("client is gone")
	cancel(gone)
	if err := log.Follow(ctx, 0, make([]byte, 1), func([]byte) error { return nil }); !errors.Is(err, gone) {
		t.Errorf("%v", err)
	}
	if _, err := io.WriteString(p.stdout, "x"); err != nil {
		t.Fatal(err)
	}
	if err := log.Follow(t.Context(), 0, make([]byte, 1), func([]byte) error { return gone }); !errors.Is(err, gone) {
		t.Errorf("%v", err)
	}
}
