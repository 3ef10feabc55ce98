package persistent

import (
	"bufio"
	"encoding/binary"
	"fmt"
	"io"

	"google.golang.org/protobuf/encoding/protodelim"
	"google.golang.org/protobuf/proto"

	"github.com/hearth-build/hearth/reapi/execution/persistent/workerpb"
)

// Delimited is the protocol of most workers: protobuf messages, each with its length
// before it.
type Delimited struct{}

var _ Protocol = Delimited{}

func (Delimited) write(w io.Writer, req *Request) error {
	m := &workerpb.WorkRequest{
		Arguments: make([][]byte, len(req.Arguments)),
		Inputs:    make([]*workerpb.Input, len(req.Inputs)),
	}
	for i, arg := range req.Arguments {
		m.Arguments[i] = []byte(arg)
	}
	for i, in := range req.Inputs {
		m.Inputs[i] = &workerpb.Input{Path: []byte(in.Path), Digest: []byte(in.Digest)}
	}
	_, err := protodelim.MarshalTo(w, m)
	return err
}

func (Delimited) cancel(w io.Writer) error {
	_, err := protodelim.MarshalTo(w, &workerpb.WorkRequest{Cancel: true})
	return err
}

func (Delimited) read(r *bufio.Reader) (Answer, error) {
	size, err := binary.ReadUvarint(r)
	switch {
	case err == io.EOF:
		return Answer{}, io.ErrUnexpectedEOF
	case err != nil:
		return Answer{}, fmt.Errorf("%w: %w", ErrAnswer, err)
	case size > maxAnswer:
		return Answer{}, fmt.Errorf("%w: it would have %d bytes; does it print anything else there?", ErrAnswer, size)
	}
	if err := checkTag(r, size); err != nil {
		return Answer{}, err
	}
	data := make([]byte, size)
	if _, err := io.ReadFull(r, data); err != nil {
		return Answer{}, fmt.Errorf("%w: %w", ErrAnswer, err)
	}
	m := &workerpb.WorkResponse{}
	if err := proto.Unmarshal(data, m); err != nil {
		return Answer{}, fmt.Errorf("%w, but begins with %.60q", ErrAnswer, data)
	}
	if m.RequestId != 0 {
		return Answer{}, fmt.Errorf("%w to this request: its request_id is %d, not 0", ErrAnswer, m.RequestId)
	}
	return Answer{ExitCode: int(m.ExitCode), Output: m.Output, Cancelled: m.WasCancelled}, nil
}

// checkTag finds out whether a message begins as one does. What a tool prints by
// mistake would else be taken for a length, and for ever be waited for.
func checkTag(r *bufio.Reader, size uint64) error {
	if size == 0 {
		return nil
	}
	tag, err := r.Peek(1)
	switch {
	case err != nil:
		return fmt.Errorf("%w: %w", ErrAnswer, err)
	case !isTag(tag[0]):
		text, _ := r.Peek(r.Buffered()) // no more than there is
		return fmt.Errorf("%w, but goes on with %.60q; does it print anything else there?", ErrAnswer, text)
	}
	return nil
}

// isTag reports whether an answer may begin with a byte: the number and type of a field.
// There may be more fields one day, but none with the numbers that letters stand for.
func isTag(b byte) bool {
	const lastField = 7
	switch field := b >> 3; field {
	case 1, 3, 4: // numbers
		return b&7 == 0
	case 2: // bytes
		return b&7 == 2
	default:
		return field > 4 && field <= lastField
	}
}
