package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"github.com/hearth-build/hearth/cas/actioncache"
	"github.com/hearth-build/hearth/cas/asset"
	"github.com/hearth-build/hearth/reapi"
	"github.com/hearth-build/hearth/reapi/execution"
)

// assetsFlags are about what clients have fetched by its URI.
type assetsFlags struct {
	AssetAllowNetwork []string `help:"Networks, such as 10.0.0.0/8, that assets may be fetched from although they are not public." placeholder:"CIDR"`
	AssetPushPrefix   []string `help:"Beginnings of the URIs that clients may push assets for; without this flag all URIs." placeholder:"URI"`
}

func (c *assetsFlags) validate() error {
	if _, err := asset.ParseNetworks(c.AssetAllowNetwork); err != nil {
		return fmt.Errorf("--asset-allow-network: %w", err)
	}
	return nil
}

// assets fetch what has a URI, for each instance.
type assets struct {
	flags        *assetsFlags
	associations *actioncache.Disk
	origin       *asset.Origin

	mu       sync.Mutex // guards fetchers: tenants come later
	fetchers map[*execution.Instance]*asset.Fetcher
}

func (c *assetsFlags) open(dataDir string, associations *actioncache.Disk) (*assets, error) {
	networks, err := asset.ParseNetworks(c.AssetAllowNetwork)
	if err != nil {
		return nil, err
	}
	origin, err := asset.NewOrigin(asset.OriginOptions{AllowNetworks: networks, SpoolDir: filepath.Join(dataDir, "spool")})
	if err != nil {
		return nil, err
	}
	return &assets{flags: c, associations: associations, origin: origin, fetchers: map[*execution.Instance]*asset.Fetcher{}}, nil
}

// add makes an instance one that has assets.
func (a *assets) add(instance *execution.Instance, namespace string) error {
	f, err := asset.NewFetcher(asset.FetcherOptions{
		Store: instance.Store, Associations: a.associations.Namespace(namespace), Origin: a.origin, MayPush: a.flags.mayPush,
	})
	if err != nil {
		return err
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.fetchers[instance] = f
	return nil
}

// of returns the assets of an instance that was added.
func (a *assets) of(instance *execution.Instance) reapi.Assets {
	a.mu.Lock()
	defer a.mu.Unlock()
	if f, ok := a.fetchers[instance]; ok {
		return f
	}
	return nil
}

func (c *assetsFlags) mayPush(_ context.Context, uri string) bool {
	return len(c.AssetPushPrefix) == 0 ||
		slices.ContainsFunc(c.AssetPushPrefix, func(prefix string) bool { return strings.HasPrefix(uri, prefix) })
}

// close cancels the downloads in progress.
func (a *assets) close(ctx context.Context) error {
	a.mu.Lock()
	fetchers := slices.Collect(maps.Values(a.fetchers))
	a.mu.Unlock()
	var errs []error
	for _, f := range fetchers {
		errs = append(errs, f.Close(ctx))
	}
	a.origin.Close()
	return errors.Join(errs...)
}
