package main

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/hearth-build/hearth/reapi/console"
	"github.com/hearth-build/hearth/reapi/execution"
)

// readiness remembers for a moment whether this machine can run actions: each slot
// asks often.
type readiness struct {
	check func(ctx context.Context) error

	mu   sync.Mutex // guards what follows; held while it is checked
	at   time.Time
	last error
}

// readyFor is how long an answer is good.
const readyFor = 2 * time.Second

func (r *readiness) now(ctx context.Context) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.at.IsZero() || time.Since(r.at) > readyFor {
		last := r.check(ctx)
		if ctx.Err() != nil {
			return last // which says nothing to the others
		}
		r.at, r.last = time.Now(), last
	}
	return r.last
}

// openedInstances opens the storage of a tenant's instance name when it is first needed.
type openedInstances struct {
	open func(tenant, name string) (*execution.Instance, error)

	mu     sync.Mutex                     // guards opened, and is held while one is opened
	opened map[string]*execution.Instance // by their namespaces
}

// maxInstances bounds the instance names of a worker: clients choose them, and each
// takes memory.
const maxInstances = 64

var _ console.Instances = (*openedInstances)(nil)

// Instance implements console.Instances.
func (o *openedInstances) Instance(tenant, name string) (*execution.Instance, bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	instance, ok := o.opened[namespace(tenant, name)]
	return instance, ok
}

func (o *openedInstances) find(tenant, name string) (*execution.Instance, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	at := namespace(tenant, name)
	if instance, ok := o.opened[at]; ok {
		return instance, nil
	}
	if len(o.opened) == maxInstances {
		return nil, fmt.Errorf("this worker has had actions of %d instance names, and takes no more: start it again, or limit those that clients may use", maxInstances)
	}
	instance, err := o.open(tenant, name)
	if err != nil {
		return nil, err
	}
	if o.opened == nil {
		o.opened = map[string]*execution.Instance{}
	}
	o.opened[at] = instance
	return instance, nil
}
