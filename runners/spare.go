package runners

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strconv"
	"time"
)

// shape is what a container cannot change once it is started. A spare, which has run
// nothing yet, is good for every key of its shape.
type shape struct {
	image   string // the ID
	network string
}

// demand is what is known of those who wanted new runners of a shape.
type demand struct {
	// Image by its name, and Network, make up the shape in the file.
	Image   string    `json:"image"`
	Network string    `json:"network"`
	Last    time.Time `json:"last"`

	image   Image
	private bool // the image needs credentials, which are in no file
}

// spareFor is how long spares are kept ready after a shape was wanted last.
const spareFor = 2 * time.Hour

// spareLocked finds a spare of the shape that is wanted.
func (p *Pool) spareLocked(w want) *runner {
	for _, r := range p.idle {
		if r.spare && r.shape == w.shape {
			return r
		}
	}
	return nil
}

// wantedLocked notes that somebody wanted a new runner, and sees to it that the next
// one finds a spare.
func (p *Pool) wantedLocked(w want) {
	if p.opts.Spares == 0 {
		return
	}
	if p.demand[w.shape] == nil {
		p.spawnLocked(func() {
			if err := p.saveDemand(); err != nil {
				p.log.Warn("the next start will have no spare runners", "error", err)
			}
		})
	}
	p.demand[w.shape] = &demand{
		Image: w.image.Name, Network: w.shape.network, Last: time.Now(), image: w.image, private: w.private,
	}
	p.stockLocked(w.shape)
}

// stockLocked starts the spares of a shape that are missing, where there is room that
// nobody waits for.
func (p *Pool) stockLocked(s shape) {
	wanted := p.demand[s]
	if p.closed || p.short || wanted == nil || time.Since(wanted.Last) >= spareFor {
		return
	}
	ready := 0
	for _, r := range p.runners {
		if r.spare && r.shape == s && r.state != Removed {
			ready++
		}
	}
	for ; ready < p.opts.Spares && p.counted < p.opts.MaxRunners && len(p.waiters) == 0; ready++ {
		r := p.addLocked()
		r.spare, r.shape, r.coldReason = true, s, "a spare, for the next action that wants a new runner"
		p.spawnLocked(func() { p.startSpare(r, wanted.image) })
	}
}

// addLocked makes room for a container that is to be started.
func (p *Pool) addLocked() *runner {
	p.made++
	id := p.prefix + strconv.Itoa(p.made)
	r := &runner{id: id, number: p.made, dir: filepath.Join(p.opts.Dir, id), created: time.Now(), counted: true}
	p.runners[id] = r
	p.counted++
	p.counts.Started++
	return r
}

// startSpare leaves a spare idle, or to somebody who waits by now.
func (p *Pool) startSpare(r *runner, image Image) {
	ctx, cancel := withStartTimeout(p.work())
	defer cancel()
	instance, err := p.launch(ctx, r, r.shape.network, image)
	if err != nil {
		// The next that wants one will be told what is wrong.
		level := slog.LevelWarn
		if p.work().Err() != nil { // the pool is shut down, which cut it short
			level = slog.LevelDebug
		}
		p.log.Log(context.Background(), level, "a spare runner could not be started", "runner", r.id, "image", image.Name, "error", err)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if err != nil {
		r.become(Removed)
		p.leaving++
		p.goneLocked(r)
		return
	}
	r.instance, r.image = instance, image
	p.parkLocked(r)
}

// adoptLocked makes a spare a runner of the key that is wanted.
func (p *Pool) adoptLocked(r *runner, w want) {
	cold := p.coldLocked(w)
	r.coldReason, r.coldKind = cold.Reason+"; a spare was ready", cold.Kind
	r.spare, r.key, r.recycle = false, w.key, w.recycle
}

// spareExpires is when a spare is not kept any longer.
func (p *Pool) spareExpires(r *runner) time.Time {
	if d := p.demand[r.shape]; d != nil {
		return d.Last.Add(spareFor)
	}
	return r.idleSince
}

// loadDemand reads what an earlier pool wrote, and starts spares for it.
func (p *Pool) loadDemand() error {
	if p.opts.Spares == 0 || p.opts.DemandFile == "" {
		return nil
	}
	text, err := os.ReadFile(p.opts.DemandFile)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	var list []*demand
	if err == nil {
		err = json.Unmarshal(text, &list)
	}
	if err != nil {
		return fmt.Errorf("which runners were wanted: %w", err)
	}
	for _, d := range list {
		p.spawn(func() {
			image, _, err := p.images.get(p.work(), ImageRef{Name: d.Image}, func(string) {})
			if err != nil {
				p.log.Info("no spare runners of an image that was wanted earlier", "image", d.Image, "error", err)
				return
			}
			d.image = image
			p.mu.Lock()
			defer p.mu.Unlock()
			s := shape{image.ID, d.Network}
			if p.demand[s] == nil {
				p.demand[s] = d
			}
			p.stockLocked(s)
		})
	}
	return nil
}

// saveDemand writes which shapes were wanted lately.
func (p *Pool) saveDemand() error {
	if p.opts.Spares == 0 || p.opts.DemandFile == "" {
		return nil
	}
	p.saving.Lock()
	defer p.saving.Unlock()
	list := []*demand{}
	p.mu.Lock()
	for _, d := range p.demand {
		if !d.private && time.Since(d.Last) < spareFor {
			list = append(list, d)
		}
	}
	p.mu.Unlock()
	text, err := json.Marshal(list)
	if err != nil {
		return err
	}
	fresh := p.opts.DemandFile + ".new"
	if err := os.WriteFile(fresh, text, 0o600); err != nil {
		return fmt.Errorf("which runners were wanted: %w", err)
	}
	return os.Rename(fresh, p.opts.DemandFile)
}
