package actioncache

import "container/list"

// lru maps keys to values and knows which were used least recently. It is not
// safe for concurrent use.
type lru[K comparable, V any] struct {
	max   int64
	used  int64
	items map[K]*list.Element // of *item
	order *list.List          // most recently used first
}

type item[K comparable, V any] struct {
	key   K
	value V
	size  int64
}

func newLRU[K comparable, V any](maxBytes int64) *lru[K, V] {
	return &lru[K, V]{max: maxBytes, items: make(map[K]*list.Element), order: list.New()}
}

// get returns a value and restarts its eviction age.
func (l *lru[K, V]) get(k K) (v V, ok bool) {
	e, ok := l.items[k]
	if !ok {
		return v, false
	}
	l.order.MoveToFront(e)
	return e.Value.(*item[K, V]).value, true
}

// put adds or replaces a value, and returns the keys that had to go for it.
func (l *lru[K, V]) put(k K, v V, size int64) (evicted []K) {
	l.remove(k)
	l.items[k] = l.order.PushFront(&item[K, V]{key: k, value: v, size: size})
	l.used += size
	for l.used > l.max && l.order.Len() > 1 {
		oldest := l.order.Back().Value.(*item[K, V]).key
		l.remove(oldest)
		evicted = append(evicted, oldest)
	}
	return evicted
}

func (l *lru[K, V]) remove(k K) {
	if e, ok := l.items[k]; ok {
		l.used -= l.order.Remove(e).(*item[K, V]).size
		delete(l.items, k)
	}
}
