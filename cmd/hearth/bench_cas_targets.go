package main

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strconv"

	repb "github.com/bazelbuild/remote-apis/build/bazel/remote/execution/v2"
	"google.golang.org/genproto/googleapis/bytestream"
)

// casTarget is a server that is measured.
type casTarget struct {
	*reapiClient
	name    string
	null    bool   // it has no store
	prefix  string // of resource names
	blobs   repb.ContentAddressableStorageClient
	streams bytestream.ByteStreamClient
}

// The servers that --ceiling compares, by the names that results have.
const (
	diskStore   = "disk"
	memoryStore = "memory"
	nullStore   = "null"
)

// casTargets are the servers of one run, and what has to be ended after it.
type casTargets struct {
	all  []*casTarget
	ends []func() error
}

// end ends all, the latest first.
func (s *casTargets) end() error {
	var errs []error
	for _, f := range slices.Backward(s.ends) {
		errs = append(errs, f())
	}
	return errors.Join(errs...)
}

func (s *casTargets) add(who *identityFlags, name, endpoint, instance string) error {
	client, err := dialREAPI(who, endpoint, instance)
	if err != nil {
		return err
	}
	s.ends = append(s.ends, client.conn.Close)
	t := &casTarget{
		reapiClient: client, name: name, null: name == nullStore,
		blobs: repb.NewContentAddressableStorageClient(client.conn), streams: bytestream.NewByteStreamClient(client.conn),
	}
	if instance != "" {
		t.prefix = instance + "/"
	}
	s.all = append(s.all, t)
	return nil
}

// targets starts what has to be started, and connects. What it returns must be
// ended also if it fails.
func (c *benchCasCmd) targets(ctx context.Context) (*casTargets, error) {
	s := &casTargets{}
	if c.Endpoint != "" || !c.Ceiling {
		endpoint := c.Endpoint
		if endpoint == "" {
			endpoint = localEndpoint
		}
		if err := s.add(&c.identityFlags, endpoint, endpoint, c.Instance); err != nil || !c.Ceiling {
			return s, err
		}
	}
	dir, err := os.MkdirTemp(c.DataDir, "hearth-bench-")
	if err != nil {
		return s, err
	}
	s.ends = append(s.ends, func() error { return os.RemoveAll(dir) })
	for _, store := range []string{diskStore, memoryStore, nullStore} {
		if store == diskStore && c.Endpoint != "" {
			continue
		}
		server, endpoint, err := startChild(ctx, c.serverArgs(store, dir)...)
		if err != nil {
			return s, err
		}
		s.ends = append(s.ends, server.stop)
		if err := s.add(&identityFlags{}, store, endpoint, ""); err != nil {
			return s, err
		}
	}
	return s, nil
}

func (c *benchCasCmd) serverArgs(store, dir string) []string {
	args := []string{
		"--log-level", "warn", "bench", "cas-server", "--store", store, "--data-dir", filepath.Join(dir, store),
		"--max-bytes", strconv.FormatInt(int64(c.StoreBytes), 10),
	}
	if c.Profile != "" {
		args = append(args, "--profile", filepath.Join(c.Profile, store+".pprof"))
	}
	return args
}
