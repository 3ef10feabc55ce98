package main

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"

	"github.com/hearth-build/hearth/cas/actioncache"
	"github.com/hearth-build/hearth/cas/asset"
	"github.com/hearth-build/hearth/reapi"
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

// assets fetch what has a URI, for each instance name.
type assets struct {
	origin   *asset.Origin
	fetchers []*asset.Fetcher
	byName   map[string]reapi.Assets
}

func (c *assetsFlags) open(dataDir string, associations *actioncache.Disk, instances reapi.Instances) (*assets, error) {
	networks, err := asset.ParseNetworks(c.AssetAllowNetwork)
	if err != nil {
		return nil, err
	}
	a := &assets{byName: map[string]reapi.Assets{}}
	a.origin, err = asset.NewOrigin(asset.OriginOptions{AllowNetworks: networks, SpoolDir: filepath.Join(dataDir, "spool")})
	if err != nil {
		return nil, err
	}
	for name, instance := range instances {
		f, err := asset.NewFetcher(asset.FetcherOptions{
			Store: instance.Store, Associations: associations.Namespace(name), Origin: a.origin, MayPush: c.mayPush,
		})
		if err != nil {
			return nil, err
		}
		a.fetchers = append(a.fetchers, f)
		a.byName[name] = f
	}
	return a, nil
}

func (c *assetsFlags) mayPush(_ context.Context, uri string) bool {
	return len(c.AssetPushPrefix) == 0 ||
		slices.ContainsFunc(c.AssetPushPrefix, func(prefix string) bool { return strings.HasPrefix(uri, prefix) })
}

// close cancels the downloads in progress.
func (a *assets) close(ctx context.Context) error {
	var errs []error
	for _, f := range a.fetchers {
		errs = append(errs, f.Close(ctx))
	}
	a.origin.Close()
	return errors.Join(errs...)
}
