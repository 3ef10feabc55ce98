package execserver

import (
	"bufio"
	"encoding/binary"
	"fmt"
	"io"
	"net"

	"google.golang.org/protobuf/proto"
)

// Run has connections of its own, beside those of gRPC: hearth makes one for each
// container, and on it one command follows the other. A message is a frame, which
// is its length in headerSize bytes and a protobuf message. The client sends a
// RunRequest, and the server RunEvents until one says how it ended. A client that
// closes its half of the connection breaks the run off; the server closes its own when
// nothing of the command runs.
const (
	headerSize = 4
	// maxEvent is larger than any event.
	maxEvent = 2 * chunkSize
)

// frames writes messages.
type frames struct {
	conn net.Conn
	buf  []byte
}

// write sends a message at once, by one system call if the peer reads fast enough.
func (f *frames) write(m proto.Message) (err error) {
	f.buf, err = proto.MarshalOptions{}.MarshalAppend(append(f.buf[:0], make([]byte, headerSize)...), m)
	if err != nil {
		return err
	}
	binary.BigEndian.PutUint32(f.buf, uint32(len(f.buf)-headerSize))
	_, err = f.conn.Write(f.buf)
	if cap(f.buf) > maxEvent {
		f.buf = nil // of a long command line
	}
	return err
}

// frameReader reads messages of a limited size.
type frameReader struct {
	r     *bufio.Reader
	limit uint32
	buf   []byte
}

func newFrameReader(conn net.Conn, limit uint32) *frameReader {
	return &frameReader{r: bufio.NewReader(conn), limit: limit}
}

// read fails with io.EOF if the peer sends no more.
func (f *frameReader) read(m proto.Message) error {
	var header [headerSize]byte
	if _, err := io.ReadFull(f.r, header[:]); err != nil {
		return err
	}
	size := binary.BigEndian.Uint32(header[:])
	if size > f.limit {
		return fmt.Errorf("a message of %d bytes, and %d are allowed", size, f.limit)
	}
	if uint32(cap(f.buf)) < size {
		f.buf = make([]byte, size)
	}
	if _, err := io.ReadFull(f.r, f.buf[:size]); err != nil {
		return noEOF(err)
	}
	err := proto.Unmarshal(f.buf[:size], m)
	if cap(f.buf) > maxEvent {
		f.buf = nil
	}
	return err
}

// noEOF is for where the end is not to be expected.
func noEOF(err error) error {
	if err == io.EOF {
		return io.ErrUnexpectedEOF
	}
	return err
}
