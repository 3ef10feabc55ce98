package console

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"time"
)

const (
	// refresh is how often it is looked whether a page has changed.
	refresh = time.Second
	// silence is how long nothing is sent at most: a client that is gone is found out.
	silence = 15 * time.Second
	// patience is how long a client may take to receive what is sent.
	patience = 30 * time.Second
)

// stream sends what a page shows whenever that has changed, until the client goes.
func (p *pages) stream(w http.ResponseWriter, r *http.Request, now look) {
	first, err := p.mainOf(r, now)
	if err != nil {
		p.fail(w, r, err)
		return
	}
	events, done, err := p.openStream(w)
	if err != nil {
		p.fail(w, r, err)
		return
	}
	defer done()
	if events.send("page", "", string(first)) != nil {
		return // the client is gone
	}
	// Likewise, or the client was told.
	_ = p.follow(r, events, first, now)
}

// openStream begins to send events. The caller calls done.
func (p *pages) openStream(w http.ResponseWriter) (e *events, done func(), err error) {
	select {
	case p.streams <- struct{}{}:
	default:
		return nil, nil, &problem{http.StatusServiceUnavailable, fmt.Sprintf("%d pages are kept up to date already: reload this one by hand, or close others", maxStreams)}
	}
	w.Header().Set("Content-Type", "text/event-stream")
	w.WriteHeader(http.StatusOK)
	e = &events{w: w, control: http.NewResponseController(w)}
	return e, func() { e.close(); <-p.streams }, nil
}

// follow sends what has changed since last.
func (p *pages) follow(r *http.Request, e *events, last []byte, now look) error {
	tick := time.NewTicker(refresh)
	defer tick.Stop()
	for sent := time.Now(); ; {
		select {
		case <-tick.C:
		case <-r.Context().Done():
			return context.Cause(r.Context())
		}
		text, err := p.mainOf(r, now)
		if err != nil {
			return errors.Join(err, e.send("end", "", err.Error()))
		}
		switch {
		case !bytes.Equal(text, last):
			err = e.send("page", "", string(text))
			last, sent = text, time.Now()
		case time.Since(sent) > silence:
			err = e.send("alive", "", "")
			sent = time.Now()
		}
		if err != nil {
			return err
		}
	}
}

// mainOf is the part of a page that changes.
func (p *pages) mainOf(r *http.Request, now look) ([]byte, error) {
	found, err := now()
	if err != nil {
		return nil, err
	}
	var text bytes.Buffer
	err = p.template(r, found.template).ExecuteTemplate(&text, "main", found.data)
	return text.Bytes(), err
}

// events are sent to a browser one after the other.
type events struct {
	w       http.ResponseWriter
	control *http.ResponseController
}

// close lets the connection be used for something else.
func (e *events) close() {
	_ = e.control.SetWriteDeadline(time.Time{}) // a connection that is lost is not used again
}

// send sends one, whose ID the browser tells if it has to connect again. The data is
// JSON, which has no line breaks.
func (e *events) send(name, id string, data any) error {
	text, err := json.Marshal(data)
	if err != nil {
		return err
	}
	if err := e.control.SetWriteDeadline(time.Now().Add(patience)); err != nil {
		return err
	}
	if id != "" {
		id = "id: " + id + "\n"
	}
	if _, err := fmt.Fprintf(e.w, "event: %s\n%sdata: %s\n\n", name, id, text); err != nil {
		return err
	}
	return e.control.Flush()
}
