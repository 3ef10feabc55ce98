package reapi

import (
	"errors"
	"fmt"
	"io"

	"google.golang.org/genproto/googleapis/bytestream"
)

// receiver is the receiving side of a Write stream.
type receiver interface {
	Recv() (*bytestream.WriteRequest, error)
}

// incoming is the messages of one Write call, checked for belonging together,
// as a reader of their data. Its io.EOF means that the client has said that it
// is finished.
type incoming struct {
	stream   receiver
	name     string
	data     []byte // received, not read yet
	offset   int64  // where the next message must go on
	finished bool
	broken   error // why the stream ended without being finished, once it has
}

// receiveFirst waits for the message that opens a Write call.
func receiveFirst(stream receiver) (*incoming, error) {
	first, err := stream.Recv()
	if errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("%w: the stream has no message", errInvalid)
	}
	if err != nil {
		return nil, err
	}
	if first.GetWriteOffset() < 0 {
		return nil, fmt.Errorf("%w: write_offset %d is negative", errInvalid, first.GetWriteOffset())
	}
	return &incoming{
		stream:   stream,
		name:     first.GetResourceName(),
		data:     first.GetData(),
		offset:   first.GetWriteOffset() + int64(len(first.GetData())),
		finished: first.GetFinishWrite(),
	}, nil
}

// start is the write_offset of the first message, before the next is received.
func (in *incoming) start() int64 { return in.offset - int64(len(in.data)) }

// Read implements io.Reader.
func (in *incoming) Read(p []byte) (int, error) {
	for len(in.data) == 0 {
		if in.finished {
			return 0, io.EOF
		}
		if err := in.receive(); err != nil {
			return 0, err
		}
	}
	n := copy(p, in.data)
	in.data = in.data[n:]
	return n, nil
}

// receive replaces data by those of the next message.
func (in *incoming) receive() error {
	req, err := in.stream.Recv()
	if err != nil {
		in.broken = err
		if errors.Is(err, io.EOF) {
			err = fmt.Errorf("%w: the upload ended at %d bytes without finish_write", errInvalid, in.offset)
		}
		return err
	}
	if name := req.GetResourceName(); name != "" && name != in.name {
		return fmt.Errorf("%w: the resource name changed in the middle to %q", errInvalid, clip(name))
	}
	if req.GetWriteOffset() != in.offset {
		return fmt.Errorf("%w: write_offset %d, but the bytes before it end at %d", errInvalid, req.GetWriteOffset(), in.offset)
	}
	in.data, in.finished = req.GetData(), req.GetFinishWrite()
	in.offset += int64(len(in.data))
	return nil
}
