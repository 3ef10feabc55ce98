package persistent

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
)

// Lines is the other protocol: JSON objects, one a line.
type Lines struct{}

var _ Protocol = Lines{}

// lineRequest and lineAnswer are the messages as JSON has them; other fields do not
// count.
type lineRequest struct {
	Arguments []string    `json:"arguments,omitempty"`
	Inputs    []lineInput `json:"inputs,omitempty"`
	Cancel    bool        `json:"cancel,omitempty"`
}

type lineInput struct {
	Path string `json:"path"`
	// Digest is bytes, which JSON has in base64.
	Digest []byte `json:"digest"`
}

type lineAnswer struct {
	ExitCode     int    `json:"exitCode"`
	Output       string `json:"output"`
	RequestID    int    `json:"requestId"`
	WasCancelled bool   `json:"wasCancelled"`
}

func (Lines) write(w io.Writer, req *Request) error {
	line := lineRequest{Arguments: req.Arguments, Inputs: make([]lineInput, len(req.Inputs))}
	for i, in := range req.Inputs {
		line.Inputs[i] = lineInput{Path: in.Path, Digest: []byte(in.Digest)}
	}
	return writeLine(w, line)
}

func (Lines) cancel(w io.Writer) error { return writeLine(w, lineRequest{Cancel: true}) }

func writeLine(w io.Writer, line lineRequest) error {
	e := json.NewEncoder(w)
	e.SetEscapeHTML(false)
	return e.Encode(line)
}

// read takes a whole object, however many lines that has, and the end of its line as
// far as that is there already.
func (Lines) read(r *bufio.Reader) (Answer, error) {
	object, err := readObject(r)
	var line lineAnswer
	if err == nil {
		err = json.Unmarshal(object, &line)
	}
	switch {
	case err == io.EOF && len(object) == 0:
		return Answer{}, io.ErrUnexpectedEOF
	case err != nil:
		return Answer{}, fmt.Errorf("%w, but begins with %.60q", ErrAnswer, object)
	case line.RequestID != 0:
		return Answer{}, fmt.Errorf("%w to this request: its requestId is %d, not 0", ErrAnswer, line.RequestID)
	}
	for r.Buffered() > 0 {
		if next, err := r.Peek(1); err != nil || !isBlank(next[0]) {
			break
		}
		if _, err := r.Discard(1); err != nil {
			return Answer{}, err
		}
	}
	return Answer{ExitCode: line.ExitCode, Output: []byte(line.Output), Cancelled: line.WasCancelled}, nil
}

func isBlank(b byte) bool { return b == ' ' || b == '\t' || b == '\n' || b == '\r' }

// readObject reads up to the end of a JSON object and not a byte more. What is no
// object is returned with an error, as far as that was read.
func readObject(r *bufio.Reader) (object []byte, err error) {
	depth, quoted, escaped := 0, false, false
	for len(object) < maxAnswer {
		b, err := r.ReadByte()
		if err != nil {
			return object, err
		}
		if len(object) == 0 && isBlank(b) {
			continue
		}
		object = append(object, b)
		switch {
		case escaped:
			escaped = false
		case quoted:
			escaped, quoted = b == '\\', b != '"'
		case b == '"':
			quoted = true
		case b == '{' || b == '[':
			depth++
		case b == '}' || b == ']':
			depth--
		}
		if depth == 0 {
			return object, nil // also if it does not begin with a brace, which is no answer
		}
	}
	return object, fmt.Errorf("%w: it has more than %d bytes", ErrAnswer, maxAnswer)
}
