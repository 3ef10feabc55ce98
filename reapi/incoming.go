package reapi

import (
	"errors"
	"fmt"
	"io"
)

// receiver is the receiving side of a Write stream.
type receiver interface{ RecvMsg(m any) error }

// incoming is the messages of one Write call, checked for belonging together,
// as a reader of their data. Its io.EOF means that the client has said that it
// is finished.
type incoming struct {
	stream   receiver
	name     string
	data     payload // received, not read yet
	offset   int64   // where the next message must go on
	finished bool
	broken   error // why the stream ended without being finished, once it has
}

// receiveFirst waits for the message that opens a Write call.
func receiveFirst(stream receiver) (*incoming, error) {
	var first writeMessage
	err := stream.RecvMsg(&first)
	if errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("%w: the stream has no message", errInvalid)
	}
	if err != nil {
		return nil, err
	}
	if first.offset < 0 {
		return nil, fmt.Errorf("%w: write_offset %d is negative", errInvalid, first.offset)
	}
	return &incoming{
		stream:   stream,
		name:     first.name,
		data:     first.data,
		offset:   first.offset + int64(first.data.size()),
		finished: first.finish,
	}, nil
}

// start is the write_offset of the first message, before the next is received.
func (in *incoming) start() int64 { return in.offset - int64(in.data.size()) }

// Read implements io.Reader.
func (in *incoming) Read(p []byte) (int, error) {
	for in.data.size() == 0 {
		if in.finished {
			return 0, io.EOF
		}
		if err := in.receive(); err != nil {
			return 0, err
		}
	}
	return in.data.read(p), nil
}

// receive replaces data by those of the next message.
func (in *incoming) receive() error {
	var m writeMessage
	if err := in.stream.RecvMsg(&m); err != nil {
		in.broken = err
		if errors.Is(err, io.EOF) {
			err = fmt.Errorf("%w: the upload ended at %d bytes without finish_write", errInvalid, in.offset)
		}
		return err
	}
	if m.name != "" && m.name != in.name {
		return fmt.Errorf("%w: the resource name changed in the middle to %q", errInvalid, clip(m.name))
	}
	if m.offset != in.offset {
		return fmt.Errorf("%w: write_offset %d, but the bytes before it end at %d", errInvalid, m.offset, in.offset)
	}
	in.data, in.finished = m.data, m.finish
	in.offset += int64(m.data.size())
	return nil
}
