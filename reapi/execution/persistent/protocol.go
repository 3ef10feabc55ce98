package persistent

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"

	"golang.org/x/sync/errgroup"
)

// Request is what an action asks of a worker.
type Request struct {
	Arguments []string
	Inputs    []Input
}

// Input is a file that the action may read.
type Input struct {
	// Path from the working directory.
	Path string
	// Digest is the hash of its content in hexadecimal digits.
	Digest string
}

// Answer is how that went.
type Answer struct {
	ExitCode int
	// Output is what a command would have printed.
	Output []byte
	// Cancelled: nothing was done.
	Cancelled bool
}

// Protocol is how a worker is spoken to.
type Protocol interface {
	write(w io.Writer, req *Request) error
	cancel(w io.Writer) error
	read(r *bufio.Reader) (Answer, error)
}

// ErrAnswer says that what a worker wrote is no answer.
var ErrAnswer = errors.New("what it wrote to stdout is no answer")

// maxAnswer bounds what a worker may say.
const maxAnswer = 32 << 20

// Ask sends a request to a worker and waits for its answer. If ctx ends before and
// cancels is true, the worker is asked to give up, which it answers, too. The writer
// may be used while a reader waits, and what ends the one ends the other.
func Ask(ctx context.Context, p Protocol, worker io.ReadWriter, req *Request, cancels bool) (Answer, error) {
	answered := make(chan struct{})
	var writing errgroup.Group
	writing.Go(func() error {
		w := bufio.NewWriterSize(worker, 256<<10)
		if err := errors.Join(p.write(w, req), w.Flush()); err != nil || !cancels {
			return err
		}
		select {
		case <-answered:
			return nil
		case <-ctx.Done():
			return errors.Join(p.cancel(w), w.Flush())
		}
	})
	r := bufio.NewReader(worker)
	answer, err := p.read(r)
	close(answered)
	if err := errors.Join(err, writing.Wait()); err != nil {
		return Answer{}, err
	}
	if n := r.Buffered(); n > 0 {
		return Answer{}, fmt.Errorf("%w: there are %d bytes more after it", ErrAnswer, n)
	}
	return answer, nil
}
