package reapi

import (
	"errors"
	"fmt"
	"strings"

	repb "github.com/bazelbuild/remote-apis/build/bazel/remote/execution/v2"
	"google.golang.org/genproto/googleapis/bytestream"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/hearth-build/hearth/cas"
	"github.com/hearth-build/hearth/reapi/access"
	"github.com/hearth-build/hearth/reapi/execution"
)

// logKeyword is before the ID of a log in [instance/]logstreams/id. Clients read
// logs and never write them: CreateLogStream is not implemented.
const logKeyword = "logstreams"

// logName is a parsed name of a log.
type logName struct{ instance, id string }

// parseLog tells whether a resource name is that of a log. Instance names may
// have the keyword in them, so that only its place before the last segment counts.
func parseLog(name string) (logName, bool) {
	segments := strings.Split(name, "/")
	at := len(segments) - 2
	if at < 0 || segments[at] != logKeyword || segments[at+1] == "" {
		return logName{}, false
	}
	if at == 0 {
		return logName{id: segments[at+1]}, true
	}
	instance := strings.Join(segments[:at], "/")
	return logName{instance: instance, id: segments[at+1]}, instance != "" && CheckInstanceName(instance) == nil
}

// nameLogs says where to read what an action prints.
func nameLogs(md *repb.ExecuteOperationMetadata, op *execution.Operation) {
	ids := op.LogIDs()
	if ids == (execution.LogIDs{}) {
		return
	}
	prefix := logKeyword + "/"
	if instance := op.Request().Instance.Name; instance != "" {
		prefix = instance + "/" + prefix
	}
	md.StdoutStreamName, md.StderrStreamName = prefix+ids.Stdout, prefix+ids.Stderr
}

// errLimit ends a read whose limit is reached.
var errLimit = errors.New("read limit reached")

// readLog sends what an action prints, while it runs and until it has ended
// (REAPI D38).
func (s *byteStreamServer) readLog(name logName, req *bytestream.ReadRequest, stream bytestream.ByteStream_ReadServer) error {
	instance, err := s.instances.find(stream.Context(), name.instance, access.Read)
	if err != nil {
		return err
	}
	log, ok := instance.Logs.Find(name.id)
	if !ok {
		return status.Errorf(codes.NotFound, "there is no log %q here (any more)", clip(name.id))
	}
	offset, left := req.GetReadOffset(), req.GetReadLimit()
	if offset < 0 {
		return fmt.Errorf("%w: read_offset %d is negative", cas.ErrOutOfRange, offset)
	}
	if left < 0 {
		return fmt.Errorf("%w: read_limit %d is negative", errInvalid, left)
	}
	limited := left > 0
	chunk := s.chunks.Get(chunkBytes)
	defer s.chunks.Put(chunk)
	err = log.Follow(stream.Context(), offset, *chunk, func(data []byte) error {
		if limited {
			data = data[:min(left, int64(len(data)))]
			left -= int64(len(data))
		}
		if err := stream.Send(&bytestream.ReadResponse{Data: data}); err != nil {
			return err
		}
		if limited && left == 0 {
			return errLimit
		}
		return nil
	})
	if errors.Is(err, errLimit) {
		return nil
	}
	return err
}
