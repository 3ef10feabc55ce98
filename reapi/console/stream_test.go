package console_test

import (
	"bufio"
	"context"
	"encoding/base64"
	"encoding/json"
	"net/http"
	"strings"
	"testing"
)

// event is what a server sent.
type event struct{ name, id, data string }

// text is its data.
func (e event) text() string {
	var text string
	_ = json.Unmarshal([]byte(e.data), &text) // what is no text is none
	return text
}

// bytes are its data, if that is in base64.
func (e event) bytes() []byte {
	data, err := base64.StdEncoding.DecodeString(e.text())
	if err != nil {
		return nil
	}
	return data
}

// incoming are the events of a stream.
type incoming struct {
	r     *rig
	lines *bufio.Scanner
}

// stream asks for events as somebody, from an ID on.
func (r *rig) stream(who, path, last string) *incoming {
	r.Helper()
	ctx, cancel := context.WithCancel(r.Context())
	r.Cleanup(cancel)
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, r.url+path, http.NoBody)
	if err != nil {
		r.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+who)
	req.Header.Set("Accept", "text/event-stream")
	req.Header.Set("Last-Event-ID", last)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		r.Fatal(err)
	}
	r.Cleanup(func() { resp.Body.Close() })
	if resp.StatusCode != http.StatusOK || resp.Header.Get("Content-Type") != "text/event-stream" {
		r.Fatalf("%s: %s, %s", path, resp.Status, resp.Header.Get("Content-Type"))
	}
	lines := bufio.NewScanner(resp.Body)
	lines.Buffer(nil, 16<<20)
	return &incoming{r, lines}
}

// next waits for the next event.
func (i *incoming) next() (e event) {
	i.r.Helper()
	for i.lines.Scan() {
		name, value, _ := strings.Cut(i.lines.Text(), ": ")
		switch name {
		case "event":
			e.name = value
		case "id":
			e.id = value
		case "data":
			e.data = value
		case "":
			return e
		}
	}
	i.r.Fatalf("the stream ended: %v", i.lines.Err())
	return e
}

// What a page shows is sent at once, and again when it has changed.
func TestPagesAreStreamed(t *testing.T) {
	r := newRig(t)
	events := r.stream("reader", "/actions", "")
	if first := events.next(); first.name != "page" || !strings.Contains(first.text(), "None has ended yet") || strings.Contains(first.text(), "<html") {
		t.Errorf("%+v", first)
	}
	r.observe("b", "foreign", nil)
	r.observe("", "fresh", nil)
	if second := events.next(); second.name != "page" || !strings.Contains(second.text(), "//:fresh") || strings.Contains(second.text(), "//:foreign") || strings.Contains(second.text(), "<script>") {
		t.Errorf("%+v", second)
	}
}

// Who may not see a page gets no stream of it.
func TestStreamsAreForThoseWhoMay(t *testing.T) {
	r := newRig(t)
	theirs := r.observe("b", "theirs", nil)
	for path, code := range map[string]int{"/": http.StatusForbidden, "/actions/" + theirs.Hash(): http.StatusNotFound} {
		req, err := http.NewRequest(http.MethodGet, r.url+path, http.NoBody)
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Authorization", "Bearer reader")
		req.Header.Set("Accept", "text/event-stream")
		got, text := do(t, req)
		if got != code || strings.Contains(text, "//:theirs") {
			t.Errorf("%s answers %d: %s", path, got, text)
		}
	}
}

// So many pages are kept up to date and no more: others are asked to come later.
func TestStreamsAreBounded(t *testing.T) {
	r := newRig(t)
	for range 200 {
		r.stream("operator", "/store", "").next()
	}
	req, err := http.NewRequest(http.MethodGet, r.url+"/store", http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer operator")
	req.Header.Set("Accept", "text/event-stream")
	if code, text := do(t, req); code != http.StatusServiceUnavailable || !strings.Contains(text, "reload") {
		t.Errorf("%d %s", code, text)
	}
	r.want("operator", "/store", "Evicted")
}
