// Package hearth keeps go.mod whole while the parts are being written; it goes when they are there.
package hearth

import (
	_ "cloud.google.com/go/longrunning/autogen/longrunningpb"
	_ "github.com/alecthomas/kong"
	_ "github.com/alecthomas/kong-yaml"
	_ "github.com/bazelbuild/remote-apis/build/bazel/remote/execution/v2"
	_ "github.com/containers/podman/v5/pkg/bindings"
	_ "github.com/containers/podman/v5/pkg/bindings/containers"
	_ "github.com/containers/podman/v5/pkg/bindings/images"
	_ "github.com/containers/podman/v5/pkg/bindings/system"
	_ "github.com/containers/podman/v5/pkg/specgen"
	_ "github.com/google/uuid"
	_ "github.com/zeebo/blake3"
	_ "go.opentelemetry.io/otel"
	_ "go.opentelemetry.io/otel/trace"
	_ "golang.org/x/sync/errgroup"
	_ "golang.org/x/sys/unix"
	_ "google.golang.org/genproto/googleapis/bytestream"
	_ "google.golang.org/genproto/googleapis/rpc/errdetails"
	_ "google.golang.org/genproto/googleapis/rpc/status"
	_ "google.golang.org/grpc"
	_ "google.golang.org/grpc/encoding/gzip"
	_ "google.golang.org/grpc/health"
	_ "google.golang.org/grpc/reflection"
)
