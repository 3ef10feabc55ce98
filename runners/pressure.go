package runners

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"
)

const (
	// pressureEvery is how often it is looked whether memory runs short, while there
	// are runners that could be given up.
	pressureEvery = 5 * time.Second
	// shortOf is the share of the memory below which what is available is too little.
	shortOf = 0.05
)

// machineMemory reads what the machine has, and what of that can be had.
func machineMemory() (available, total int64, err error) {
	f, err := os.Open("/proc/meminfo")
	if err != nil {
		return 0, 0, err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	found := map[string]int64{}
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		fields := strings.Fields(lines.Text()) // "MemTotal: 16316428 kB"
		if len(fields) < 2 {
			continue
		}
		if n, err := strconv.ParseInt(fields[1], 10, 64); err == nil {
			found[fields[0]] = n << 10
		}
	}
	available, total = found["MemAvailable:"], found["MemTotal:"]
	if err := lines.Err(); err != nil || total == 0 {
		return 0, 0, errors.Join(err, errors.New("/proc/meminfo does not say how much memory there is"))
	}
	return available, total, nil
}

// underPressure says in words that the machine runs short of memory, or "".
func (p *Pool) underPressure() string {
	available, total, err := p.opts.Memory()
	if err != nil {
		p.log.Debug("it is not known whether memory runs short", "error", err)
		return ""
	}
	if share := float64(available) / float64(total); share < shortOf {
		return fmt.Sprintf("the machine has only %.1f%% of its memory left", 100*share)
	}
	return ""
}

// relieve gives up one idle runner, a spare or else the longest idle, each time that
// memory is looked at and runs short. The others follow if that does not help.
func (p *Pool) relieve() {
	p.mu.Lock()
	due := len(p.idle) > 0 && !time.Now().Before(p.memoryAt)
	if due {
		p.memoryAt = time.Now().Add(pressureEvery)
	}
	p.mu.Unlock()
	if !due {
		return
	}
	why := p.underPressure()
	p.mu.Lock()
	p.short = why != ""
	if p.short && len(p.idle) > 0 {
		p.retireLocked(p.leastLocked(), ending{evicted, why})
	}
	p.mu.Unlock()
}
