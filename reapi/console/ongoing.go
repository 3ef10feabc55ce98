package console

import (
	"cmp"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/hearth-build/hearth/reapi/execution"
)

// Ongoing is a run of an action that goes on.
type Ongoing struct {
	Digest     string    `json:"digest"` // hash/size
	Instance   string    `json:"instance"`
	Tenant     string    `json:"tenant,omitempty"`
	Invocation string    `json:"invocation,omitempty"`
	Mnemonic   string    `json:"mnemonic,omitempty"`
	Target     string    `json:"target,omitempty"`
	Args       []string  `json:"args,omitempty"`
	Operation  string    `json:"operation"`
	Queued     time.Time `json:"queued"`
	// Step is what it does, Since when, and Why what it waits for.
	Step  string    `json:"step"`
	Since time.Time `json:"since"`
	Why   string    `json:"why,omitempty"`
	// Position is where it stands in the queue, from 1 on; 0: it was admitted.
	Position int           `json:"position,omitempty"`
	Phases   []Phase       `json:"phases,omitempty"`
	Runner   *ActionRunner `json:"runner,omitempty"`
	// Prints: what it prints can be read while it does.
	Prints bool `json:"prints"`
}

// What is the action in a few words.
func (o *Ongoing) What() string {
	return (&Action{Mnemonic: o.Mnemonic, Target: o.Target, Args: o.Args}).What()
}

// LogURL is where its streams are.
func (o *Ongoing) LogURL() string { return "/" + o.Operation }

func newOngoing(u *execution.Unfinished) *Ongoing {
	o := &Ongoing{
		Digest: digestText(u.Action), Instance: u.Instance, Tenant: u.Tenant, Invocation: u.Invocation, Mnemonic: u.Mnemonic, Target: u.Target,
		Args: u.Args, Operation: u.Operation, Queued: u.Queued, Step: strings.ToLower(u.Step.String()), Since: u.Since, Why: u.Why(),
		Phases: newPhases(u.Phases), Runner: newActionRunner(u.Runner),
	}
	if u.Wait != nil {
		o.Position = u.Wait.Position
	}
	_, o.Prints = u.Log(execution.Stdout)
	return o
}

// operationOf finds a run that goes on by the last part of an operation's name.
func (p *pages) operationOf(r *http.Request) (*execution.Unfinished, error) {
	name := "operations/" + r.PathValue("id")
	found, err := p.unfinished(r, func(u *execution.Unfinished) bool { return u.Operation == name })
	if err != nil {
		return nil, err
	}
	if len(found) == 0 {
		return nil, notFound("this operation does not go on (any more): /actions has what ended")
	}
	return found[0], nil
}

// log sends what a run prints for as long as it does, as text or as events whose IDs
// are offsets.
func (p *pages) log(w http.ResponseWriter, r *http.Request) {
	secure(w.Header())
	follow, err := p.openLog(r)
	if err != nil {
		p.fail(w, r, err)
		return
	}
	e := &events{w: w, control: http.NewResponseController(w)}
	defer e.close()
	send := e.text
	if wanted(r) == asStream {
		opened, done, err := p.openStream(w)
		if err != nil {
			p.fail(w, r, err)
			return
		}
		defer done()
		e, send = opened, opened.piece
	} else {
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		_ = e.control.Flush() // as above: whoever asks hears that it goes on, also if nothing is printed
	}
	err = follow(r, send)
	if wanted(r) == asStream && err == nil {
		_ = e.send("end", "", "") // the client is gone if this fails
	}
}

// follower sends a log from an offset on.
type follower func(r *http.Request, send func(offset int64, piece []byte) error) error

func (p *pages) openLog(r *http.Request) (follower, error) {
	u, err := p.operationOf(r)
	if err != nil {
		return nil, err
	}
	stream := execution.Stream(r.PathValue("stream"))
	if stream != execution.Stdout && stream != execution.Stderr {
		return nil, notFound("the streams of an operation are stdout and stderr")
	}
	log, ok := u.Log(stream)
	if !ok {
		return nil, notFound("its command does not run yet, so that nothing is printed")
	}
	return func(r *http.Request, send func(int64, []byte) error) error {
		// Where a browser was when its connection was lost, or where it wants to begin.
		offset, err := strconv.ParseInt(cmp.Or(r.Header.Get("Last-Event-ID"), r.URL.Query().Get("offset")), 10, 64)
		if err != nil || offset < 0 {
			offset = 0
		}
		const room = 32 << 10
		return log.Follow(r.Context(), offset, make([]byte, room), func(piece []byte) error {
			offset += int64(len(piece))
			return send(offset, piece)
		})
	}, nil
}

// piece sends a part of a log as an event. Its bytes may be no text, or parts of letters.
func (e *events) piece(offset int64, piece []byte) error {
	return e.send("print", strconv.FormatInt(offset, 10), piece) // in base64
}

// text sends a part of a log as it is.
func (e *events) text(_ int64, piece []byte) error {
	if err := e.control.SetWriteDeadline(time.Now().Add(patience)); err != nil {
		return err
	}
	if _, err := e.w.Write(piece); err != nil {
		return err
	}
	return e.control.Flush()
}
