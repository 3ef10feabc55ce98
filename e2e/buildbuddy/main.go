// Command buildbuddy is a stand-in for an app of BuildBuddy, which the tests of package
// e2e let hearth work for: clients execute actions on it as on the real one, and it
// gives them to executors. At its end it says what they did that the protocol does not
// allow, and fails if there is anything.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log"
	"net"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"
	"time"

	"cloud.google.com/go/longrunning/autogen/longrunningpb"
	repb "github.com/bazelbuild/remote-apis/build/bazel/remote/execution/v2"
	"github.com/bazelbuild/remote-apis/build/bazel/semver"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"

	"github.com/hearth-build/hearth/reapi/buildbuddy/buildbuddytest"
)

func main() {
	listen := flag.String("listen", "127.0.0.1:0", "where clients and executors come to")
	cas := flag.String("cas", "", "HOST:PORT of the storage")
	key := flag.String("api-key", "", "what executors must show")
	lease := flag.Duration("lease", 10*time.Second, "how long an executor has a task that it does not speak of")
	flag.Parse()
	if err := run(*listen, *cas, *key, *lease); err != nil {
		log.Fatal(err)
	}
}

func run(listen, cas, key string, lease time.Duration) error {
	conn, err := grpc.NewClient(cas, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		return fmt.Errorf("-cas: %w", err)
	}
	defer conn.Close()
	app := buildbuddytest.NewApp(key)
	app.Lease = lease
	listener, err := net.Listen("tcp", listen)
	if err != nil {
		return fmt.Errorf("-listen: %w", err)
	}
	server := grpc.NewServer()
	front := &front{app: app, storage: repb.NewContentAddressableStorageClient(conn)}
	repb.RegisterCapabilitiesServer(server, front)
	execution := repb.Execution_ServiceDesc
	execution.Streams = append(slices.Clone(execution.Streams), app.PublishOperation())
	server.RegisterService(&execution, front)
	app.ServeScheduler(server)
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, os.Interrupt)
	defer stop()
	defer context.AfterFunc(ctx, server.Stop)()
	fmt.Printf("listening on %s\n", listener.Addr())
	if err := server.Serve(listener); err != nil {
		return err
	}
	if v := app.Violations(); len(v) > 0 {
		return errors.New("executors broke the rules:\n" + strings.Join(v, "\n"))
	}
	return nil
}

// front is what clients call.
type front struct {
	repb.UnimplementedExecutionServer
	repb.UnimplementedCapabilitiesServer
	app     *buildbuddytest.App
	storage repb.ContentAddressableStorageClient
}

// GetCapabilities implements repb.CapabilitiesServer.
func (f *front) GetCapabilities(context.Context, *repb.GetCapabilitiesRequest) (*repb.ServerCapabilities, error) {
	functions := []repb.DigestFunction_Value{repb.DigestFunction_SHA256}
	return &repb.ServerCapabilities{
		ExecutionCapabilities: &repb.ExecutionCapabilities{DigestFunction: functions[0], DigestFunctions: functions, ExecEnabled: true},
		LowApiVersion:         &semver.SemVer{Major: 2},
		HighApiVersion:        &semver.SemVer{Major: 2, Minor: 3},
	}, nil
}

// Execute implements repb.ExecutionServer.
func (f *front) Execute(req *repb.ExecuteRequest, stream repb.Execution_ExecuteServer) error {
	action, command := &repb.Action{}, &repb.Command{}
	if err := f.read(stream.Context(), req, req.GetActionDigest(), action); err != nil {
		return err
	}
	if err := f.read(stream.Context(), req, action.GetCommandDigest(), command); err != nil {
		return err
	}
	task, err := f.app.Submit(buildbuddytest.Spec{Request: req, Action: action, Command: command, Group: "clients"})
	if err != nil {
		return err
	}
	if err := send(stream, task.ID(), req, nil); err != nil {
		return errors.Join(err, task.Cancel())
	}
	resp, err := task.Wait(stream.Context())
	if err != nil {
		return errors.Join(err, task.Cancel())
	}
	return send(stream, task.ID(), req, resp)
}

// read reads a message from the storage.
func (f *front) read(ctx context.Context, req *repb.ExecuteRequest, d *repb.Digest, into proto.Message) error {
	resp, err := f.storage.BatchReadBlobs(ctx, &repb.BatchReadBlobsRequest{
		InstanceName: req.GetInstanceName(), Digests: []*repb.Digest{d}, DigestFunction: req.GetDigestFunction(),
	})
	if err != nil {
		return err
	}
	if len(resp.GetResponses()) != 1 || resp.GetResponses()[0].GetStatus().GetCode() != 0 {
		return fmt.Errorf("blob %v: %v", d, resp)
	}
	return proto.Unmarshal(resp.GetResponses()[0].GetData(), into)
}

// send tells a client that its action waits, or of the outcome.
func send(stream repb.Execution_ExecuteServer, name string, req *repb.ExecuteRequest, resp *repb.ExecuteResponse) error {
	stage := repb.ExecutionStage_QUEUED
	if resp != nil {
		stage = repb.ExecutionStage_COMPLETED
	}
	md, err := anypb.New(&repb.ExecuteOperationMetadata{Stage: stage, ActionDigest: req.GetActionDigest()})
	if err != nil {
		return err
	}
	op := &longrunningpb.Operation{Name: name, Metadata: md}
	if resp != nil {
		body, err := anypb.New(resp)
		if err != nil {
			return err
		}
		op.Done, op.Result = true, &longrunningpb.Operation_Response{Response: body}
	}
	return stream.Send(op)
}
