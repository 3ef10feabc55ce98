package console

import (
	"archive/tar"
	"context"
	"errors"
	"io"
	"net/http"
	"path"

	repb "github.com/bazelbuild/remote-apis/build/bazel/remote/execution/v2"

	"github.com/hearth-build/hearth/cas"
)

// packed sends a directory of an input root, with all that is below it, as a tar file to
// those who want that; others see what is in it.
func (p *pages) packed(w http.ResponseWriter, r *http.Request) {
	if r.URL.Query().Get("format") != "tar" {
		p.serve(p.inputs)(w, r)
		return
	}
	secure(w.Header())
	instance, d, err := p.blobOf(r)
	if err != nil {
		p.fail(w, r, err)
		return
	}
	ctx := r.Context()
	g, err := inputGraph(ctx, instance.Store, placeIn(r), d)
	var top *repb.Directory
	if err == nil {
		top, err = g.find(ctx, r.PathValue("path"))
	}
	if err != nil {
		p.fail(w, r, notFound(err.Error()))
		return
	}
	w.Header().Set("Content-Type", "application/x-tar")
	w.Header().Set("Content-Disposition", "attachment; filename=inputs.tar")
	packing := &packer{tar.NewWriter(w), instance.Store, g}
	if err := errors.Join(packing.add(ctx, "", top), packing.Close()); err != nil {
		panic(http.ErrAbortHandler) // the client sees that it ends early
	}
}

// packer writes directories into a tar file.
type packer struct {
	*tar.Writer

	store cas.Getter
	graph *graph
}

// add writes what is in a directory.
func (k *packer) add(ctx context.Context, dir string, d *repb.Directory) error {
	for _, f := range d.GetFiles() {
		if err := k.file(ctx, path.Join(dir, f.GetName()), f); err != nil {
			return err
		}
	}
	for _, link := range d.GetSymlinks() {
		if err := k.WriteHeader(&tar.Header{Typeflag: tar.TypeSymlink, Name: path.Join(dir, link.GetName()), Linkname: link.GetTarget(), Mode: 0o777}); err != nil {
			return err
		}
	}
	for _, sub := range d.GetDirectories() {
		name := path.Join(dir, sub.GetName())
		if err := k.WriteHeader(&tar.Header{Typeflag: tar.TypeDir, Name: name + "/", Mode: 0o755}); err != nil {
			return err
		}
		below, err := k.graph.read(ctx, sub.GetDigest())
		if err != nil {
			return err
		}
		if err := k.add(ctx, name, below); err != nil {
			return err
		}
	}
	return nil
}

func (k *packer) file(ctx context.Context, name string, f *repb.FileNode) error {
	d, err := cas.FromProto(k.graph.function.Proto(), f.GetDigest())
	if err != nil {
		return err
	}
	mode := int64(0o644)
	if f.GetIsExecutable() {
		mode = 0o755
	}
	if err := k.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: name, Size: d.Size(), Mode: mode}); err != nil {
		return err
	}
	blob, err := open(ctx, k.store, d)
	if err != nil {
		return err
	}
	defer blob.Close()
	_, err = io.Copy(k, cas.NewContent(d, blob))
	return err
}
