package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"runtime/pprof"

	"google.golang.org/grpc"

	"github.com/hearth-build/hearth/cas"
	"github.com/hearth-build/hearth/cas/actioncache"
	"github.com/hearth-build/hearth/cas/disk"
	"github.com/hearth-build/hearth/cas/memory"
	"github.com/hearth-build/hearth/reapi"
	"github.com/hearth-build/hearth/reapi/execution"
)

// casServerCmd is `hearth bench cas-server`, which `hearth bench cas` starts: a
// server as `hearth serve` starts one, but for the store, that runs no actions.
type casServerCmd struct {
	Store    string    `enum:"disk,memory,null" required:"" help:"Where blobs are."`
	DataDir  string    `type:"path" required:"" help:"Directory of the store on disk."`
	MaxBytes bytesFlag `required:"" help:"Most that the store holds."`
	Profile  string    `help:"File for a CPU profile."`
}

// Run serves until a signal arrives.
func (c *casServerCmd) Run(ctx context.Context) (err error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	defer listener.Close()
	if c.Profile != "" {
		stop, err := profile(c.Profile)
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, stop()) }()
	}
	if c.Store == nullStore {
		return serveUntil(ctx, newNullServer(), listener)
	}
	instance := &execution.Instance{}
	if c.Store == diskStore {
		d, err := disk.Open(ctx, disk.Options{Dir: c.DataDir, MaxBytes: int64(c.MaxBytes)})
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, d.Close()) }()
		instance.Store, instance.Results = d.Namespace(""), actioncache.NewDisk(d, "ac").Namespace("")
	} else {
		instance.Store, instance.Results = memory.New(int64(c.MaxBytes)), actioncache.NewMemory(int64(c.MaxBytes))
	}
	instance.Results = actioncache.Complete(instance.Results, instance.Store)
	return c.serve(ctx, instance, listener)
}

func (c *casServerCmd) serve(ctx context.Context, instance *execution.Instance, listener net.Listener) error {
	slots, err := execution.NewSlots(execution.SlotsOptions{Total: execution.Resources{MilliCPU: 1000, Memory: 1, Runners: 1}, MaxQueued: 1})
	if err != nil {
		return err
	}
	scheduler, err := execution.NewScheduler(noExecutor{}, slots, execution.SchedulerOptions{})
	if err != nil {
		return err
	}
	server, err := reapi.NewServer(reapi.Instances{"": instance}, scheduler)
	if err != nil {
		return err
	}
	err = serveUntil(ctx, server.Server, listener)
	server.Finish()
	return errors.Join(err, scheduler.Close(context.WithoutCancel(ctx)))
}

// noExecutor runs nothing.
type noExecutor struct{}

// Execute implements execution.Executor.
func (noExecutor) Execute(context.Context, *execution.Task, execution.Report) *execution.Outcome {
	return &execution.Outcome{Err: fmt.Errorf("%w: this server measures storage", cas.ErrUnavailable)}
}

// serveUntil tells where it listens, and serves until ctx ends.
func serveUntil(ctx context.Context, server *grpc.Server, listener net.Listener) error {
	fmt.Printf("listening on grpc://%s\n", listener.Addr())
	stop := context.AfterFunc(ctx, server.Stop)
	defer stop()
	return server.Serve(listener)
}

// profile writes a CPU profile from now on.
func profile(file string) (stop func() error, err error) {
	f, err := os.Create(file)
	if err != nil {
		return nil, err
	}
	if err := pprof.StartCPUProfile(f); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return func() error {
		pprof.StopCPUProfile()
		return f.Close()
	}, nil
}
