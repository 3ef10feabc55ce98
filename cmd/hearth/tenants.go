package main

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/hearth-build/hearth/cas/actioncache"
	"github.com/hearth-build/hearth/reapi"
	"github.com/hearth-build/hearth/reapi/console"
	"github.com/hearth-build/hearth/reapi/execution"
)

// tenants have the same instance names, and share nothing in them. The instances
// of each are opened when they are first asked for.
type tenants struct {
	opener func(tenant string) (reapi.Instances, error)

	mu     sync.Mutex // guards opened, and is held while a tenant's are opened
	opened map[string]reapi.Instances
}

func newTenants(opener func(tenant string) (reapi.Instances, error)) *tenants {
	return &tenants{opener: opener, opened: map[string]reapi.Instances{}}
}

// open returns the instances of a tenant, of which there are as many as the file
// of principals names.
func (t *tenants) open(tenant string) (reapi.Instances, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if instances, ok := t.opened[tenant]; ok {
		return instances, nil
	}
	instances, err := t.opener(tenant)
	if err != nil {
		return nil, err
	}
	t.opened[tenant] = instances
	return instances, nil
}

var _ console.Instances = (*tenants)(nil)

// Instance implements console.Instances.
func (t *tenants) Instance(tenant, name string) (*execution.Instance, bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	instance, ok := t.opened[tenant][name]
	return instance, ok
}

// namespace is where the stores keep what belongs to an instance name of a tenant.
// No instance name has two slashes in a row, so no two have the same.
func namespace(tenant, instance string) string {
	if tenant == "" {
		return instance
	}
	return tenant + "//" + instance
}

// openInstances makes the parts of the stores that each instance name of a tenant
// has.
func (c *serveCmd) openInstances(ctx context.Context, s *stack, tenant string) (reapi.Instances, error) {
	if tenant != "" && c.Backing.CAS != "" {
		return nil, errors.New("principals with a tenant cannot be served with --cas: the server there would mix up what belongs to whom")
	}
	names := c.Instance
	if len(names) == 0 {
		names = []string{""}
	}
	instances := reapi.Instances{}
	for _, name := range names {
		instance, err := c.openInstance(ctx, s, name, namespace(tenant, name))
		if err != nil {
			return nil, err
		}
		instances[name] = instance
	}
	return instances, nil
}

func (c *serveCmd) openInstance(ctx context.Context, s *stack, name, namespace string) (*execution.Instance, error) {
	instance, err := c.newInstance(ctx, s, name, namespace)
	if err != nil {
		return nil, err
	}
	return instance, s.assets.add(instance, namespace)
}

// newInstance opens the stores of an instance name, which are kept apart by the namespace.
func (c *machineFlags) newInstance(ctx context.Context, s *stack, name, namespace string) (*execution.Instance, error) {
	own := local{s.blobs.Namespace(namespace), actioncache.NewDisk(s.blobs, "ac").Namespace(namespace)}
	store, results, err := s.backing.instance(name, own)
	if err != nil {
		return nil, fmt.Errorf("open the stores of instance name %q: %w", name, err)
	}
	s.backing.greet(ctx, name, store)
	keeper, stager, err := s.inputs.open(store)
	if err != nil {
		return nil, err
	}
	return &execution.Instance{
		Name:    name,
		Store:   store,
		Results: actioncache.Complete(results, store),
		Inputs:  keeper,
		Stager:  stager,

		DefaultProperties: properties(c.DefaultProperty),
		HostNetwork:       c.HostNetwork,
	}, nil
}
