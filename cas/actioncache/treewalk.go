package actioncache

import (
	"context"
	"errors"
	"fmt"

	repb "github.com/bazelbuild/remote-apis/build/bazel/remote/execution/v2"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

	"github.com/hearth-build/hearth/cas"
)

// maxTreeBytes bounds what is read of the trees of one result.
const maxTreeBytes = 64 << 20

// treeWalk collects the files that output directories are made of. Whatever is
// wrong with a tree is errIncomplete.
type treeWalk struct {
	store    cas.Getter
	function cas.Function
	left     int64 // bytes that may still be read
	files    []cas.Digest
}

// The fields of a Tree message.
const (
	treeRoot     = protowire.Number(1)
	treeChildren = protowire.Number(2)
)

// tree walks a Tree message. Each directory that one of its directories names
// must be in it. A child is found by the digest of the very bytes in the
// message, so the message is taken apart by hand.
func (w *treeWalk) tree(ctx context.Context, d cas.Digest) error {
	data, err := w.read(ctx, d)
	if err != nil {
		return err
	}
	there := make(map[cas.Digest]bool)
	var named []cas.Digest
	for len(data) > 0 {
		number, kind, n := protowire.ConsumeTag(data)
		if n < 0 {
			return fmt.Errorf("%w: %v is no Tree", errIncomplete, d)
		}
		data = data[n:]
		if n = protowire.ConsumeFieldValue(number, kind, data); n < 0 {
			return fmt.Errorf("%w: %v is no Tree", errIncomplete, d)
		}
		if kind == protowire.BytesType && (number == treeRoot || number == treeChildren) {
			raw, _ := protowire.ConsumeBytes(data)
			children, err := w.directory(raw)
			if err != nil {
				return err
			}
			named = append(named, children...)
			there[w.function.Sum(raw)] = true
		}
		data = data[n:]
	}
	for _, child := range named {
		if !child.IsEmptyBlob() && !there[child] {
			return fmt.Errorf("%w: directory %v is not in its tree %v", errIncomplete, child, d)
		}
	}
	return nil
}

// directories walks graphs of Directory messages that are blobs of their own.
// Reading each is a use of it.
func (w *treeWalk) directories(ctx context.Context, roots []cas.Digest) error {
	seen := make(map[cas.Digest]bool)
	for todo := roots; len(todo) > 0; {
		d := todo[len(todo)-1]
		todo = todo[:len(todo)-1]
		if seen[d] {
			continue
		}
		seen[d] = true
		data, err := w.read(ctx, d)
		if err != nil {
			return err
		}
		children, err := w.directory(data)
		if err != nil {
			return err
		}
		todo = append(todo, children...)
	}
	return nil
}

func (w *treeWalk) read(ctx context.Context, d cas.Digest) ([]byte, error) {
	data, err := cas.ReadAll(ctx, w.store, d, w.left)
	if errors.Is(err, cas.ErrTooLarge) {
		return nil, fmt.Errorf("%w: %w", errIncomplete, err)
	}
	w.left -= int64(len(data))
	return data, err
}

// directory notes the files of an encoded Directory and returns its children.
func (w *treeWalk) directory(raw []byte) (children []cas.Digest, err error) {
	var dir repb.Directory
	if err := proto.Unmarshal(raw, &dir); err != nil {
		return nil, fmt.Errorf("%w: a directory of its trees is malformed: %w", errIncomplete, err)
	}
	for _, file := range dir.GetFiles() {
		d, err := parse(file.GetDigest(), w.function)
		if err != nil {
			return nil, err
		}
		w.files = append(w.files, d)
	}
	for _, sub := range dir.GetDirectories() {
		d, err := parse(sub.GetDigest(), w.function)
		if err != nil {
			return nil, err
		}
		children = append(children, d)
	}
	return children, nil
}
