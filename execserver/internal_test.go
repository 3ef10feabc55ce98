package execserver

import (
	"errors"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/hearth-build/hearth/execserver/execpb"
)

// The guard sits where the signal is sent. Signal 0 harms nobody if it fails.
func TestKillAllNeedsToBeInit(t *testing.T) {
	if err := killAll(syscall.Signal(0)); !errors.Is(err, errNotInit) {
		t.Errorf("got %v", err)
	}
}

func TestSameBuild(t *testing.T) {
	for _, c := range []struct {
		client, server string
		same           bool
	}{
		{"a", "a", true},
		{"", "a", true},
		{"a", "", true},
		{"", "", true},
		{"a", "b", false},
	} {
		if err := sameBuild(c.client, c.server); (err == nil) != c.same {
			t.Errorf("%q and %q: %v", c.client, c.server, err)
		}
	}
}

func TestLadder(t *testing.T) {
	start := time.Now()
	after := func(d time.Duration) time.Time { return start.Add(d) }
	none := newLadder(&Command{Grace: time.Second}, start)
	if sig := none.climb(after(1000 * time.Hour)); sig != 0 || none.timedOut {
		t.Errorf("without a timeout: %v", sig)
	}
	abrupt := newLadder(&Command{Timeout: time.Second}, start)
	if sig := abrupt.climb(after(time.Second - 1)); sig != 0 || abrupt.timedOut {
		t.Errorf("before the timeout: %v", sig)
	}
	if sig := abrupt.climb(after(time.Second)); sig != syscall.SIGKILL || !abrupt.timedOut {
		t.Errorf("without grace: %v", sig)
	}
	if sig := abrupt.climb(after(time.Hour)); sig != 0 || !abrupt.timedOut {
		t.Errorf("after SIGKILL: %v", sig)
	}
	gentle := newLadder(&Command{Timeout: time.Second, Grace: time.Minute}, start)
	if sig := gentle.climb(after(2 * time.Second)); sig != syscall.SIGTERM || !gentle.timedOut {
		t.Errorf("with grace: %v", sig)
	}
	if sig := gentle.climb(after(61 * time.Second)); sig != 0 {
		t.Errorf("during the grace: %v", sig)
	}
	if sig := gentle.climb(after(62 * time.Second)); sig != syscall.SIGKILL || !gentle.timedOut {
		t.Errorf("after the grace: %v", sig)
	}
}

// events records what is sent.
type events struct {
	sent   []string
	block  chan struct{}
	failed error
}

func (e *events) Send(event *execpb.RunEvent) error {
	if e.block != nil {
		<-e.block
	}
	e.sent = append(e.sent, string(event.GetStdout())+string(event.GetStderr()))
	return e.failed
}

// A busy sender takes nothing, loses nothing, and says when it is idle.
func TestSender(t *testing.T) {
	stream := &events{block: make(chan struct{})}
	idle := make(chan struct{}, 10)
	s := sender{stream: stream, wake: func() { idle <- struct{}{} }}
	pipes := newPipes()
	p := &pipes[0]
	for i, text := range []string{"one", "two", "three"} {
		p.buf = append(p.buf, text...)
		s.take(p)
		if len(p.buf) != 0 {
			t.Fatalf("%d: an idle sender did not take %q", i, p.buf)
		}
		p.buf = append(p.buf, "more"...)
		s.take(p)
		if string(p.buf) != "more" {
			t.Fatalf("%d: a busy sender took output: %q", i, p.buf)
		}
		stream.block <- struct{}{}
		<-idle
	}
	close(stream.block)
	s.take(p)
	if err := s.stop(); err != nil {
		t.Error(err)
	}
	if got := strings.Join(stream.sent, " "); got != "one moretwo morethree more" {
		t.Errorf("sent %q", got)
	}
}

func TestSenderWhoseClientIsGone(t *testing.T) {
	gone := errors.New("client is gone")
	stream := &events{failed: gone}
	idle := make(chan struct{}, 10)
	s := sender{stream: stream, wake: func() { idle <- struct{}{} }}
	pipes := newPipes()
	p := &pipes[1]
	for range 3 {
		p.buf = append(p.buf, 'x')
		s.take(p)
		<-idle
	}
	if err := s.stop(); !errors.Is(err, gone) {
		t.Errorf("got %v", err)
	}
	if len(stream.sent) != 1 {
		t.Errorf("sent %d times", len(stream.sent))
	}
	// It can be used for the next command.
	s.stream = &events{}
	p.buf = append(p.buf[:0], 'y')
	s.take(p)
	if err := s.stop(); err != nil {
		t.Error(err)
	}
}
