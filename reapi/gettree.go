package reapi

import (
	"fmt"

	repb "github.com/bazelbuild/remote-apis/build/bazel/remote/execution/v2"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"

	"github.com/hearth-build/hearth/cas"
	"github.com/hearth-build/hearth/reapi/access"
)

const (
	// treePageBytes is the size of a page at which it is sent, small enough for
	// the client to work while the walk goes on.
	treePageBytes = 1 << 20
	// maxTreePage is how many directories a page has at most.
	maxTreePage = 10_000
)

// GetTree streams the directories of a tree, each distinct one once.
func (s *casServer) GetTree(req *repb.GetTreeRequest, stream grpc.ServerStreamingServer[repb.GetTreeResponse]) error {
	instance, err := s.instances.find(stream.Context(), req.GetInstanceName(), access.Read)
	if err != nil {
		return rpcError(err)
	}
	root, err := cas.FromProto(req.GetDigestFunction(), req.GetRootDigest())
	if err != nil {
		return rpcError(err)
	}
	if req.GetPageSize() < 0 {
		return rpcError(fmt.Errorf("%w: page_size %d is negative", errInvalid, req.GetPageSize()))
	}
	scope := treeScope(req.GetInstanceName(), root)
	skip, err := scope.position(req.GetPageToken())
	if err != nil {
		return rpcError(err)
	}
	pages := &treePages{stream: stream, scope: scope, size: maxTreePage}
	if n := int(req.GetPageSize()); n > 0 {
		pages.size = min(n, maxTreePage)
	}
	walk := treeWalk{store: instance.Store, root: root, skip: skip, emit: pages.add}
	if err := walk.run(stream.Context()); err != nil {
		return rpcError(err)
	}
	return pages.send("")
}

// treePages collects directories into messages. A page is sent when another
// directory follows, so that the last one has no token.
type treePages struct {
	stream grpc.ServerStreamingServer[repb.GetTreeResponse]
	scope  pageScope
	size   int
	page   []*repb.Directory
	bytes  int
}

// add takes the directory at a position of the walk.
func (p *treePages) add(position int, d *repb.Directory) error {
	const framing = 8
	size := proto.Size(d) + framing
	if len(p.page) > 0 && (len(p.page) == p.size || p.bytes+size > treePageBytes) {
		if err := p.send(p.scope.token(position)); err != nil {
			return err
		}
	}
	p.page = append(p.page, d)
	p.bytes += size
	return nil
}

func (p *treePages) send(next string) error {
	err := p.stream.Send(&repb.GetTreeResponse{Directories: p.page, NextPageToken: next})
	p.page, p.bytes = nil, 0
	return err
}
