package chunking

import (
	"container/list"

	"github.com/hearth-build/hearth/cas"
)

// mappings remembers the chunks of the blobs that were asked for last. It is not
// safe for concurrent use.
type mappings struct {
	max, used int // chunks
	byBlob    map[cas.Digest]*list.Element
	order     *list.List // of mapping, most recently used first
}

type mapping struct {
	blob   cas.Digest
	chunks []cas.Digest
}

func newMappings(maxChunks int) *mappings {
	return &mappings{max: maxChunks, byBlob: make(map[cas.Digest]*list.Element), order: list.New()}
}

// get returns the chunks of the blob, nil if they are not known.
func (m *mappings) get(blob cas.Digest) []cas.Digest {
	e := m.byBlob[blob]
	if e == nil {
		return nil
	}
	m.order.MoveToFront(e)
	return e.Value.(mapping).chunks
}

// add remembers the chunks of a blob, which do not depend on when they are worked
// out, and forgets what has not been asked for the longest.
func (m *mappings) add(blob cas.Digest, chunks []cas.Digest) {
	if m.byBlob[blob] != nil || len(chunks) > m.max {
		return
	}
	m.used += len(chunks)
	m.byBlob[blob] = m.order.PushFront(mapping{blob, chunks})
	for m.used > m.max {
		oldest := m.order.Remove(m.order.Back()).(mapping)
		delete(m.byBlob, oldest.blob)
		m.used -= len(oldest.chunks)
	}
}
