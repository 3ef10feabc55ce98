package reapi

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	remoteasset "github.com/bazelbuild/remote-apis/build/bazel/remote/asset/v1"
	repb "github.com/bazelbuild/remote-apis/build/bazel/remote/execution/v2"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	statuspb "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/hearth-build/hearth/cas"
	"github.com/hearth-build/hearth/cas/asset"
	"github.com/hearth-build/hearth/reapi/access"
	"github.com/hearth-build/hearth/reapi/execution"
)

// Assets answer for the assets of one instance.
type Assets interface {
	// Fetch brings an asset into the store of the instance.
	Fetch(context.Context, asset.Request) (asset.Fetched, error)
	// Push makes content of that store the answer to requests to come.
	Push(context.Context, asset.Push) error
}

var _ Assets = (*asset.Fetcher)(nil)

// WithAssets adds the services of the Remote Asset API, for the instances that
// have Assets; of tells which, or nil.
func WithAssets(of func(*execution.Instance) Assets) Option {
	return func(c *serverConfig) { c.assets = of }
}

type assetInstances struct {
	instances *doors
	assets    func(*execution.Instance) Assets
}

// find returns the Assets of an instance name. To fetch stores something, and
// makes this server speak to others.
func (a assetInstances) find(ctx context.Context, name string, roles access.Roles) (Assets, error) {
	instance, err := a.instances.find(ctx, name, roles)
	if err != nil {
		return nil, err
	}
	if found := a.assets(instance); found != nil {
		return found, nil
	}
	return nil, fmt.Errorf("%w: the instance name %q has no assets", asset.ErrUnimplemented, name)
}

type fetchServer struct {
	remoteasset.UnimplementedFetchServer
	assets assetInstances
}

// FetchBlob brings a file into the store.
func (s *fetchServer) FetchBlob(ctx context.Context, req *remoteasset.FetchBlobRequest) (*remoteasset.FetchBlobResponse, error) {
	got, err := s.fetch(ctx, req.GetInstanceName(), assetRequest{
		Request:    asset.Request{Kind: asset.Blob, URIs: req.GetUris()},
		qualifiers: req.GetQualifiers(), function: req.GetDigestFunction(),
		timeout: req.GetTimeout(), oldest: req.GetOldestContentAccepted(),
	})
	if err != nil {
		return nil, err
	}
	return &remoteasset.FetchBlobResponse{Status: got.status, Uri: got.uri, BlobDigest: got.digest, DigestFunction: got.function}, nil
}

// FetchDirectory brings the tree of an archive into the store.
func (s *fetchServer) FetchDirectory(ctx context.Context, req *remoteasset.FetchDirectoryRequest) (*remoteasset.FetchDirectoryResponse, error) {
	got, err := s.fetch(ctx, req.GetInstanceName(), assetRequest{
		Request:    asset.Request{Kind: asset.Directory, URIs: req.GetUris()},
		qualifiers: req.GetQualifiers(), function: req.GetDigestFunction(),
		timeout: req.GetTimeout(), oldest: req.GetOldestContentAccepted(),
	})
	if err != nil {
		return nil, err
	}
	return &remoteasset.FetchDirectoryResponse{Status: got.status, Uri: got.uri, RootDirectoryDigest: got.digest, DigestFunction: got.function}, nil
}

// assetRequest is what both kinds of fetch are made of.
type assetRequest struct {
	asset.Request
	qualifiers []*remoteasset.Qualifier
	function   repb.DigestFunction_Value
	timeout    *durationpb.Duration
	oldest     *timestamppb.Timestamp
}

// fetched is what both kinds of reply are made of.
type fetched struct {
	status   *statuspb.Status
	uri      string
	digest   *repb.Digest
	function repb.DigestFunction_Value
}

// fetch puts into the reply what origins are to blame for; the rest is the
// status of the RPC (REAPI J2).
func (s *fetchServer) fetch(ctx context.Context, instance string, r assetRequest) (*fetched, error) {
	assets, err := s.assets.find(ctx, instance, access.Upload)
	if err != nil {
		return nil, rpcError(err)
	}
	req, err := r.parse()
	if err != nil {
		return nil, rpcError(err)
	}
	got, err := assets.Fetch(ctx, req)
	reply := &fetched{status: &statuspb.Status{Message: got.Warning}, uri: got.URI, function: req.Function.Proto()}
	var fault *asset.OriginError
	if errors.As(err, &fault) {
		reply.status, reply.uri = status.New(codeOf(fault), fault.Error()).Proto(), fault.URI
		return reply, nil
	}
	if err != nil {
		return nil, assetError(err)
	}
	reply.digest = got.Digest.Proto()
	return reply, nil
}

func (r assetRequest) parse() (asset.Request, error) {
	req := r.Request
	req.Qualifiers = assetQualifiers(r.qualifiers)
	req.Function = cas.SHA256
	if r.function != repb.DigestFunction_UNKNOWN {
		var err error
		if req.Function, err = cas.FunctionOf(r.function, ""); err != nil {
			return req, err
		}
	}
	if r.timeout != nil {
		if err := r.timeout.CheckValid(); err != nil {
			return req, fmt.Errorf("%w: timeout: %w", errInvalid, err)
		}
		req.Timeout = r.timeout.AsDuration()
	}
	var err error
	req.Oldest, err = optionalTime("oldest_content_accepted", r.oldest)
	return req, err
}

func optionalTime(field string, t *timestamppb.Timestamp) (time.Time, error) {
	if t == nil {
		return time.Time{}, nil
	}
	if err := t.CheckValid(); err != nil {
		return time.Time{}, fmt.Errorf("%w: %s: %w", errInvalid, field, err)
	}
	return t.AsTime(), nil
}

func assetQualifiers(list []*remoteasset.Qualifier) []asset.Qualifier {
	qualifiers := make([]asset.Qualifier, 0, len(list))
	for _, q := range list {
		qualifiers = append(qualifiers, asset.Qualifier{Name: q.GetName(), Value: q.GetValue()})
	}
	return qualifiers
}

// assetError names the qualifiers that are not supported one by one, and the
// blobs that are missing for a push (REAPI J6, J20).
func assetError(err error) error {
	var unsupported *asset.UnsupportedError
	if !errors.As(err, &unsupported) {
		return executionStatus(err).Err()
	}
	bad := &errdetails.BadRequest{}
	for _, name := range unsupported.Names {
		bad.FieldViolations = append(bad.FieldViolations, &errdetails.BadRequest_FieldViolation{
			Field:       "qualifiers.name",
			Description: strconv.Quote(name) + " not supported",
		})
	}
	return newStatus(codes.InvalidArgument, err, bad).Err()
}

type pushServer struct {
	remoteasset.UnimplementedPushServer
	assets assetInstances
}

// PushBlob makes a blob the answer to FetchBlob.
func (s *pushServer) PushBlob(ctx context.Context, req *remoteasset.PushBlobRequest) (*remoteasset.PushBlobResponse, error) {
	err := s.push(ctx, req.GetInstanceName(), assetPush{
		Push:       asset.Push{Kind: asset.Blob, URIs: req.GetUris(), Qualifiers: assetQualifiers(req.GetQualifiers())},
		function:   req.GetDigestFunction(),
		digest:     req.GetBlobDigest(),
		blobs:      req.GetReferencesBlobs(),
		trees:      req.GetReferencesDirectories(),
		expiration: req.GetExpireAt(),
	})
	if err != nil {
		return nil, err
	}
	return &remoteasset.PushBlobResponse{}, nil
}

// PushDirectory makes a tree the answer to FetchDirectory.
func (s *pushServer) PushDirectory(ctx context.Context, req *remoteasset.PushDirectoryRequest) (*remoteasset.PushDirectoryResponse, error) {
	err := s.push(ctx, req.GetInstanceName(), assetPush{
		Push:       asset.Push{Kind: asset.Directory, URIs: req.GetUris(), Qualifiers: assetQualifiers(req.GetQualifiers())},
		function:   req.GetDigestFunction(),
		digest:     req.GetRootDirectoryDigest(),
		blobs:      req.GetReferencesBlobs(),
		trees:      req.GetReferencesDirectories(),
		expiration: req.GetExpireAt(),
	})
	if err != nil {
		return nil, err
	}
	return &remoteasset.PushDirectoryResponse{}, nil
}

// assetPush is what both kinds of push are made of.
type assetPush struct {
	asset.Push
	function     repb.DigestFunction_Value
	digest       *repb.Digest
	blobs, trees []*repb.Digest
	expiration   *timestamppb.Timestamp
}

func (s *pushServer) push(ctx context.Context, instance string, r assetPush) error {
	assets, err := s.assets.find(ctx, instance, access.Write)
	if err != nil {
		return rpcError(err)
	}
	push, err := r.parse()
	if err != nil {
		return rpcError(err)
	}
	if err := assets.Push(ctx, push); err != nil {
		return assetError(err)
	}
	return nil
}

func (r assetPush) parse() (asset.Push, error) {
	push := r.Push
	var err error
	if push.Digest, err = cas.FromProto(r.function, r.digest); err != nil {
		return push, fmt.Errorf("the content's digest: %w", err)
	}
	if push.Blobs, err = parseDigests(r.function, r.blobs); err != nil {
		return push, fmt.Errorf("references_blobs: %w", err)
	}
	if push.Directories, err = parseDigests(r.function, r.trees); err != nil {
		return push, fmt.Errorf("references_directories: %w", err)
	}
	push.Expires, err = optionalTime("expire_at", r.expiration)
	return push, err
}
