package actioncache

import (
	"context"
	"fmt"
	"sync"

	repb "github.com/bazelbuild/remote-apis/build/bazel/remote/execution/v2"
	"google.golang.org/protobuf/proto"

	"github.com/hearth-build/hearth/cas"
)

// Memory is a Cache that is gone when the process ends.
type Memory struct {
	mu      sync.Mutex // guards results
	results *lru[cas.Digest, []byte]
}

var _ Cache = (*Memory)(nil)

// entryOverhead is about what an entry takes besides its message.
const entryOverhead = 400

// NewMemory returns an empty cache for at most maxBytes of results.
func NewMemory(maxBytes int64) *Memory {
	return &Memory{results: newLRU[cas.Digest, []byte](maxBytes)}
}

// Get implements Cache.
func (m *Memory) Get(ctx context.Context, key cas.Digest) (*repb.ActionResult, error) {
	if err := context.Cause(ctx); err != nil {
		return nil, err
	}
	m.mu.Lock()
	data, ok := m.results.get(key)
	m.mu.Unlock()
	if !ok {
		return nil, notFound(key)
	}
	r := &repb.ActionResult{}
	if err := proto.Unmarshal(data, r); err != nil {
		return nil, fmt.Errorf("decode the result of action %v: %w", key, err)
	}
	return r, nil
}

// Put implements Cache.
func (m *Memory) Put(ctx context.Context, key cas.Digest, r *repb.ActionResult) error {
	if err := context.Cause(ctx); err != nil {
		return err
	}
	data, err := encode(r)
	if err != nil {
		return err
	}
	size := int64(len(data)) + entryOverhead
	if size > m.results.max {
		return fmt.Errorf("%w: the result of action %v has %d bytes, the cache holds %d", cas.ErrTooLarge, key, size, m.results.max)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.results.put(key, data, size)
	return nil
}

func encode(r *repb.ActionResult) ([]byte, error) {
	data, err := proto.MarshalOptions{Deterministic: true}.Marshal(r)
	if err != nil {
		return nil, fmt.Errorf("encode an action result: %w", err)
	}
	return data, nil
}

func notFound(key cas.Digest) error {
	return fmt.Errorf("%w: no result of action %v", cas.ErrNotFound, key)
}
