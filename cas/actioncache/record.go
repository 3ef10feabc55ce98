package actioncache

import (
	"bytes"
	"crypto/sha256"

	repb "github.com/bazelbuild/remote-apis/build/bazel/remote/execution/v2"
	"google.golang.org/protobuf/proto"

	"github.com/hearth-build/hearth/cas"
)

// A record on disk is a format byte, a checksum over the key and the message,
// and the message. The checksum covers the key so that a record is never taken
// for that of another action. A message may be empty, a record never is.
const (
	recordFormat = 1
	headerLen    = 1 + sha256.Size
)

func encodeRecord(key cas.Digest, r *repb.ActionResult) ([]byte, error) {
	message, err := encode(r)
	if err != nil {
		return nil, err
	}
	record := make([]byte, 0, headerLen+len(message))
	record = append(record, recordFormat)
	record = append(record, checksum(key, message)...)
	return append(record, message...), nil
}

// decodeRecord returns nil if the record is not what Put wrote for key.
func decodeRecord(key cas.Digest, record []byte) *repb.ActionResult {
	if len(record) < headerLen || record[0] != recordFormat {
		return nil
	}
	message := record[headerLen:]
	if !bytes.Equal(record[1:headerLen], checksum(key, message)) {
		return nil
	}
	r := &repb.ActionResult{}
	if proto.Unmarshal(message, r) != nil {
		return nil
	}
	return r
}

func checksum(key cas.Digest, message []byte) []byte {
	h := sha256.New()
	h.Write([]byte{recordFormat})
	h.Write([]byte(key.String()))
	h.Write([]byte{0})
	h.Write(message)
	return h.Sum(nil)
}
