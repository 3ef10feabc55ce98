package execution

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/google/uuid"

	"github.com/hearth-build/hearth/cas"
)

// How long the log of an action that has ended can be read by its name, and how
// many of them: what they take is a name and a digest each.
const (
	logRetention = time.Minute
	maxEndedLogs = 1000
)

// Logs are what the actions of an instance print, for those who want to read
// along, by names that nobody can guess. They are safe for concurrent use. The
// zero value is ready.
type Logs struct {
	mu    sync.Mutex // guards what follows
	byID  map[string]*Log
	ended []*Log // oldest first
}

// Log is what an action prints to one of its two streams.
type Log struct {
	id    string
	spool *spool
	store cas.Getter
	over  time.Time // when its action ended; zero before; guarded by the Logs' mutex
}

// ErrLogLost says that what is left of a log was not kept, since its action was
// given up.
var ErrLogLost = errors.New("log is lost")

// open makes the two logs of an attempt to run an action.
func (l *Logs) open(p *printed, store cas.Getter) (stdout, stderr *Log) {
	id := uuid.NewString()
	stdout = &Log{id: id + "-stdout", spool: p.stdout, store: store}
	stderr = &Log{id: id + "-stderr", spool: p.stderr, store: store}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.byID == nil {
		l.byID = map[string]*Log{}
	}
	l.byID[stdout.id], l.byID[stderr.id] = stdout, stderr
	return stdout, stderr
}

// end notes that the action of some logs has ended, and forgets older ones.
func (l *Logs) end(logs ...*Log) {
	now := time.Now()
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, log := range logs {
		log.over = now
	}
	l.ended = append(l.ended, logs...)
	for len(l.ended) > maxEndedLogs || len(l.ended) > 0 && l.ended[0].expired(now) {
		delete(l.byID, l.ended[0].id)
		l.ended[0] = nil
		l.ended = l.ended[1:]
	}
}

func (log *Log) expired(now time.Time) bool {
	return !log.over.IsZero() && now.Sub(log.over) >= logRetention
}

// Find finds the log with an ID.
func (l *Logs) Find(id string) (*Log, bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	log, ok := l.byID[id]
	if !ok || log.expired(time.Now()) {
		return nil, false
	}
	return log, true
}

// Follow reads the log from an offset on by way of room, and calls send with
// each piece until the action has ended and all was sent. A slow send holds up
// nobody else.
func (log *Log) Follow(ctx context.Context, offset int64, room []byte, send func([]byte) error) error {
	for {
		n, err := log.spool.follow(ctx, room, offset)
		if n > 0 {
			offset += int64(n)
			if err := send(room[:n]); err != nil {
				return err
			}
		}
		switch {
		case errors.Is(err, io.EOF):
			return nil
		case errors.Is(err, errEnded):
			return log.rest(ctx, offset, room, send)
		case err != nil:
			return fmt.Errorf("follow a log: %w", err)
		}
	}
}

// rest reads what a reader did not come to while the action ran.
func (log *Log) rest(ctx context.Context, offset int64, room []byte, send func([]byte) error) error {
	d, size, stored := log.spool.whole()
	switch {
	case offset > size:
		return fmt.Errorf("%w: the log ended after %d bytes, before offset %d", cas.ErrOutOfRange, size, offset)
	case !stored:
		return fmt.Errorf("%w: its action was given up", ErrLogLost)
	}
	blob, err := log.store.Get(ctx, d, offset)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrLogLost, err)
	}
	defer blob.Close()
	for offset < size {
		n, err := io.ReadFull(blob, room[:min(int64(len(room)), size-offset)])
		if err != nil {
			return fmt.Errorf("read a log from the store: %w", err)
		}
		offset += int64(n)
		if err := send(room[:n]); err != nil {
			return err
		}
	}
	return nil
}

// LogIDs name what a run prints in the Logs of its instance. They change when it
// begins anew, since a runner was lost.
type LogIDs struct{ Stdout, Stderr string }

// publish lets others follow what the attempt's command prints, until the
// returned function is called.
func (a *attempt) publish() (end func()) {
	logs := &a.task.Instance.Logs
	stdout, stderr := logs.open(a.printed, a.task.Store())
	a.task.logs.Store(&LogIDs{Stdout: stdout.id, Stderr: stderr.id})
	return func() {
		a.printed.close()
		logs.end(stdout, stderr)
	}
}

// LogIDs says where to read what the run prints, once it does.
func (o *Operation) LogIDs() LogIDs {
	if ids := o.run.task.logs.Load(); ids != nil {
		return *ids
	}
	return LogIDs{}
}
