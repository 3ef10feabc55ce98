package disk

// op is a change of the key-value side: the value of an entry to set or to delete, or
// many that are to be cleared.
type op struct {
	entry  *entry // whose name and time are the key
	data   []byte
	inPack          // if it sets
	gone   bool     // delete
	done   bool     // it is on the key-value side; guarded by index.mu
	clear  *stretch // instead of an entry
}

// sets reports whether the op stores a value.
func (o *op) sets() bool { return !o.gone && o.clear == nil }

// deletion is the op after which an entry's value is there no more. What is left of a pack
// gets keys of its own.
func deletion(e *entry) *op {
	if e.nth == 0 {
		return &op{entry: e, gone: true}
	}
	return &op{clear: &stretch{from: e.started(e.written), to: e.written + 1}}
}

// size is about what an op takes in memory, and in the library's log.
func (o *op) size() int64 { return int64(len(o.data)) + valueOverhead }

// queue holds the changes of the key-value side, in the order in which the index
// made them: nothing else orders two values of a record, or a value and its deletion.
// It is guarded by index.mu.
type queue struct {
	ops     []*op
	waiting int64 // bytes of ops
	bytes   int64 // of ops, and of those being written
	// added and done count ops.
	added, done uint64
	recent      []*op // written, in memory all the same; oldest first
	recentBytes int64
	// Both have room for one.
	wake     chan struct{} // sent to when there is something to write
	hurry    chan struct{} // sent to when there is enough, or somebody waits
	progress chan struct{} // closed and made anew when ops were written
}

// enough is how many bytes are worth to be written at once. The library keeps the memory
// of a batch of this size for the next one, and that of a larger one costs page faults.
const enough = 512 << 10

// maxQueued is how many bytes may wait to be written: enough for writers never
// to wait for each other, little enough to lose in a crash.
const maxQueued = 32 << 20

func (q *queue) init() {
	q.wake, q.hurry = make(chan struct{}, 1), make(chan struct{}, 1)
	q.progress = make(chan struct{})
}

func (q *queue) addLocked(o *op) {
	q.ops = append(q.ops, o)
	q.waiting += o.size()
	q.bytes += o.size()
	q.added++
	if len(q.ops) == 1 {
		poke(q.wake)
	}
	if q.waiting >= enough {
		poke(q.hurry)
	}
}

// poke sends unless the last one was not received yet.
func poke(c chan<- struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// takeQueue returns what has to be written now, in order.
func (x *index) takeQueue() []*op {
	x.mu.Lock()
	defer x.mu.Unlock()
	ops := x.queue.ops
	x.queue.ops, x.queue.waiting = make([]*op, 0, len(ops)), 0
	select {
	case <-x.queue.hurry: // which was about these
	default:
	}
	return ops
}

// wrote notes that ops are on the key-value side.
func (x *index) wrote(ops []*op) {
	x.mu.Lock()
	defer x.mu.Unlock()
	for _, o := range ops {
		x.queue.bytes -= o.size()
		if o.sets() && x.blobs.value(o.entry) == o {
			o.done = true
			x.keepLocked(o)
		}
	}
	x.queue.done += uint64(len(ops))
	x.signalLocked()
}

// maxRecent is how many bytes of values stay in memory after they were written
// or read: what was just stored is what is asked for next, and the library takes
// four times as long to find it.
const maxRecent = 32 << 20

// keepLocked keeps the value of an entry in memory, in place of older ones.
func (x *index) keepLocked(o *op) {
	q := &x.queue
	q.recent = append(q.recent, o)
	q.recentBytes += o.size()
	for q.recentBytes > maxRecent {
		oldest := q.recent[0]
		q.recent[0] = nil
		q.recent = q.recent[1:]
		q.recentBytes -= oldest.size()
		if x.blobs.value(oldest.entry) == oldest {
			x.blobs.setValue(oldest.entry, nil)
		}
		oldest.entry = nil
	}
}

// keep keeps a value that was read.
func (x *index) keep(e *entry, data []byte) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.blobs.has(e) && x.blobs.value(e) == nil && int64(len(data)) == e.size {
		o := &op{entry: e, data: data, done: true}
		x.blobs.setValue(e, o)
		x.keepLocked(o)
	}
}

// signal wakes those who wait for the queue, to look what has changed.
func (x *index) signal() {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.signalLocked()
}

func (x *index) signalLocked() {
	close(x.queue.progress)
	x.queue.progress = make(chan struct{})
}

// queueState tells whether the queue has room, how far it came, and what closes
// at the next change.
func (x *index) queueState() (room bool, added, done uint64, change <-chan struct{}) {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.queue.bytes < maxQueued, x.queue.added, x.queue.done, x.queue.progress
}
