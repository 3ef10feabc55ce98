package disk

// reserve takes need bytes from the budget for a file. What has to go for them
// is the caller's to remove.
func (x *index) reserve(need int64) ([]victim, error) {
	x.mu.Lock()
	defer x.mu.Unlock()
	victims, err := x.makeRoomLocked(need)
	if err == nil {
		x.reserved += need
	}
	return victims, err
}

func (x *index) unreserve(n int64) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.reserved -= n
}

// reservation is room for one file, in the budget and on the file system.
type reservation struct {
	disk    *Disk
	bytes   int64
	pending int64 // of them, those not written yet
}

// maxEvictions is how often a reservation looks again whether what it evicted
// made room. Blobs that are also linked or open elsewhere free nothing.
const maxEvictions = 8

// reserve makes room for a file of the given size, by eviction if need be.
func (d *Disk) reserve(size int64) (*reservation, error) {
	r := &reservation{disk: d, bytes: blocksOf(size)}
	if err := d.enter(); err != nil {
		return nil, err
	}
	defer d.life.RUnlock()
	victims, err := d.index.reserve(r.bytes)
	if err != nil {
		return nil, err
	}
	if err := d.remove(victims); err != nil {
		d.index.unreserve(r.bytes)
		return nil, err
	}
	r.pending = r.bytes
	d.space.pending.Add(r.bytes)
	if err := d.makeFree(); err != nil {
		r.release()
		return nil, err
	}
	return r, nil
}

// makeFree keeps free space above the floor, by eviction. Below half of it new
// blobs are refused, unless what was evicted makes room in time.
func (d *Disk) makeFree() error {
	if bytes, files, err := d.space.shortage(false); err != nil || (bytes == 0 && files == 0) {
		return err
	}
	// One at a time: each would evict for the reservations of all.
	d.space.making.Lock()
	defer d.space.making.Unlock()
	d.remains.free()
	defer d.values.fs.spares.pause()()
	d.warnIf("remove spare files", d.values.fs.spares.remove(d.values.fs.FS))
	d.roomToCompact()
	for range maxEvictions {
		bytes, files, err := d.space.shortage(true)
		if err != nil {
			return err
		}
		more := false
		if bytes -= d.reclaimer.expected(); bytes > 0 || files > 0 {
			if more, err = d.evict(bytes, files); err != nil {
				return err
			}
		}
		if tight, err := d.space.tight(); !tight || err != nil {
			return err
		}
		if d.reclaimer.expected() > 0 {
			if err := d.reclaim(); err != nil {
				return err
			}
		} else if !more {
			break
		}
	}
	if tight, err := d.space.tight(); !tight || err != nil {
		return err
	}
	return d.space.full(d.layout.dir)
}

// roomToCompact keeps as much free as giving back the space of deleted values
// is expected to take: less than all there are, until that turns out too little.
func (d *Disk) roomToCompact() {
	failures := min(d.values.fs.compactions.failing(), 30)
	d.index.mu.Lock()
	defer d.index.mu.Unlock()
	d.space.compaction.Store(min(d.index.small, min(d.index.small/4, 1<<30)<<failures))
}

// wrote tells that n bytes of the reservation are on the file system now.
func (r *reservation) wrote(n int64) {
	n = min(n, r.pending)
	r.pending -= n
	r.disk.space.pending.Add(-n)
}

// spend ends the reservation of a file that the index accounts for now.
func (r *reservation) spend() {
	r.wrote(r.pending)
	r.bytes = 0
}

// release gives back what was not spent.
func (r *reservation) release() {
	r.wrote(r.pending)
	r.disk.index.unreserve(r.bytes)
}
