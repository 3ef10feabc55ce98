package tree

import (
	"container/list"
	"sync"

	"github.com/hearth-build/hearth/cas"
)

// cache keeps checked Directories by digest, least recently used out first,
// bounded by the memory they take. It is safe for concurrent use.
type cache struct {
	limit int64

	mu    sync.Mutex
	byKey map[cas.Digest]*list.Element
	order *list.List // of cached, newest first
	bytes int64
}

type cached struct {
	key cas.Digest
	dir *directory
}

func newCache(limit int64) *cache {
	return &cache{limit: limit, byKey: map[cas.Digest]*list.Element{}, order: list.New()}
}

// fill sets the directory of each node whose digest is cached and returns the
// others: one lock for a whole level of a graph.
func (c *cache) fill(nodes []*node) []*node {
	c.mu.Lock()
	defer c.mu.Unlock()
	var absent []*node
	for _, n := range nodes {
		e, ok := c.byKey[n.digest]
		if !ok {
			absent = append(absent, n)
			continue
		}
		c.order.MoveToFront(e)
		n.directory = e.Value.(cached).dir
	}
	return absent
}

// add remembers loaded nodes. One that would take more than a quarter of the
// whole is left out: it would push out too much.
func (c *cache) add(nodes []*node) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, n := range nodes {
		if n.directory == nil || n.bytes > c.limit/4 || c.byKey[n.digest] != nil {
			continue
		}
		c.byKey[n.digest] = c.order.PushFront(cached{key: n.digest, dir: n.directory})
		c.bytes += n.bytes
	}
	for c.bytes > c.limit {
		oldest := c.order.Back()
		out := c.order.Remove(oldest).(cached)
		delete(c.byKey, out.key)
		c.bytes -= out.dir.bytes
	}
}
