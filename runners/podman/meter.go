package podman

import (
	"errors"
	"fmt"
	"math"
	"os"
	"strconv"
	"strings"

	"github.com/hearth-build/hearth/runners"
)

// meter reads what the kernel counts of one container in the files of its
// cgroup, which are kept open: each read takes a few microseconds. A nil file
// means that the host does not offer it.
type meter struct {
	events *os.File // memory.oom_control, memory.events
	peak   *os.File // memory.max_usage_in_bytes, memory.peak
	resets bool     // what is written to peak makes it begin anew
	limit  int64    // 0: none
	// disk are blkio.throttle.io_service_bytes_recursive and
	// blkio.throttle.io_serviced_recursive, or io.stat alone.
	disk []*os.File
	// stat is memory.stat, of either version.
	stat   *os.File
	v2Stat bool

	last counters   // at the end of the command before
	room [8192]byte // to read into
}

// counters only grow, but for a peak that begins anew.
type counters struct {
	kills, peak int64
	disk        runners.Disk
}

// openMeter opens what can be had.
func (o *opener) openMeter() *meter {
	m := &meter{resets: true}
	m.events, _ = o.open("memory", os.O_RDONLY, "memory.oom_control", "memory.events")
	if m.peak, _ = o.try("memory", os.O_RDWR, "memory.max_usage_in_bytes", "memory.peak"); m.peak == nil {
		// Before Linux 6.12 version 2 cannot begin anew, before 5.19 it counts none.
		m.resets = false
		m.peak, _ = o.try("memory", os.O_RDONLY, "memory.max_usage_in_bytes", "memory.peak")
	}
	if m.events != nil {
		m.limit = o.limit()
	}
	m.stat, m.v2Stat = o.try("memory", os.O_RDONLY, "memory.stat", "memory.stat")
	bytes, v2 := o.try("blkio", os.O_RDONLY, "blkio.throttle.io_service_bytes_recursive", "io.stat")
	if bytes != nil {
		m.disk = append(m.disk, bytes)
	}
	if ops, _ := o.try("blkio", os.O_RDONLY, "blkio.throttle.io_serviced_recursive", "io.stat"); ops != nil && !v2 {
		m.disk = append(m.disk, ops)
	}
	return m
}

func (m *meter) files() []*os.File { return append([]*os.File{m.events, m.peak, m.stat}, m.disk...) }

// begin is called before a command.
func (m *meter) begin() error {
	if m.peak == nil || !m.resets {
		return nil
	}
	if _, err := m.peak.WriteAt([]byte("0"), 0); err != nil {
		return fmt.Errorf("begin to measure memory anew: %w", err)
	}
	m.last.peak = 0
	return nil
}

// end is called after it, and adds what was counted to its result.
func (m *meter) end(res *runners.Result) error {
	now, err := m.read()
	if err != nil {
		return err
	}
	res.Memory.Limit = m.limit
	res.Memory.Kills = int(now.kills - m.last.kills)
	if now.peak > m.last.peak { // else it was another command's
		res.Memory.Peak = now.peak
	}
	res.Disk = runners.Disk{
		ReadBytes:    now.disk.ReadBytes - m.last.disk.ReadBytes,
		WrittenBytes: now.disk.WrittenBytes - m.last.disk.WrittenBytes,
		Reads:        now.disk.Reads - m.last.disk.Reads,
		Writes:       now.disk.Writes - m.last.disk.Writes,
	}
	m.last = now
	return nil
}

func (m *meter) read() (now counters, err error) {
	if m.events != nil {
		text, err := readAll(m.events)
		if err != nil {
			return now, err
		}
		if now.kills, err = value(text, "oom_kill"); err != nil {
			return now, err
		}
	}
	if m.peak != nil {
		if now.peak, err = readNumber(m.peak); err != nil {
			return now, err
		}
	}
	for i, file := range m.disk {
		text, err := readInto(file, m.room[:])
		if err != nil {
			return now, err
		}
		if err := addDisk(&now.disk, text, i == 1); err != nil {
			return now, fmt.Errorf("%s: %w", file.Name(), err)
		}
	}
	return now, nil
}

// addDisk sums up all devices. Version 1 has lines "8:0 Read 12", in one file
// about bytes and in the other about operations; version 2 has lines
// "8:0 rbytes=12 wbytes=0 rios=1 wios=0 dbytes=0 dios=0".
func addDisk(d *runners.Disk, text []byte, operations bool) error {
	into := map[string]*int64{
		"Read": &d.ReadBytes, "Write": &d.WrittenBytes,
		"rbytes": &d.ReadBytes, "wbytes": &d.WrittenBytes, "rios": &d.Reads, "wios": &d.Writes,
	}
	if operations {
		into["Read"], into["Write"] = &d.Reads, &d.Writes
	}
	for line := range strings.Lines(string(text)) {
		fields := strings.Fields(line)
		if len(fields) == 3 && !strings.Contains(line, "=") {
			fields = []string{fields[0], fields[1] + "=" + fields[2]}
		}
		for _, field := range fields {
			name, number, ok := strings.Cut(field, "=")
			if !ok || into[name] == nil {
				continue
			}
			n, err := strconv.ParseInt(number, 10, 64)
			if err != nil {
				return err
			}
			*into[name] += n
		}
	}
	return nil
}

// limit is the memory that the container may use; 0: any.
func (o *opener) limit() int64 {
	file, _ := o.open("memory", os.O_RDONLY, "memory.limit_in_bytes", "memory.max")
	if file == nil {
		return 0
	}
	limit, err := readLimit(file)
	if err := errors.Join(err, file.Close()); err != nil {
		o.errs = append(o.errs, err)
	}
	return limit
}

// readLimit reads a limit of either version; 0: none.
func readLimit(file *os.File) (int64, error) {
	text, err := readAll(file)
	if err != nil || strings.TrimSpace(string(text)) == "max" {
		return 0, err
	}
	limit, err := strconv.ParseInt(strings.TrimSpace(string(text)), 10, 64)
	if limit > math.MaxInt64/2 { // version 1 has no word for none
		limit = 0
	}
	return limit, err
}

func readNumber(file *os.File) (int64, error) {
	text, err := readAll(file)
	if err != nil {
		return 0, err
	}
	n, err := strconv.ParseInt(strings.TrimSpace(string(text)), 10, 64)
	if err != nil {
		return 0, fmt.Errorf("%s: %w", file.Name(), err)
	}
	return n, nil
}
