package asset

import (
	"archive/tar"
	"archive/zip"
	"bufio"
	"bytes"
	"compress/bzip2"
	"compress/gzip"
	"context"
	"errors"
	"io"
	"io/fs"
	"strings"

	"github.com/klauspost/compress/zstd"

	"github.com/hearth-build/hearth/cas"
)

// format is what an archive is, "" if that is not said.
type format string

const (
	formatTar   format = "tar"
	formatGzip  format = "tar.gz"
	formatBzip2 format = "tar.bz2"
	formatZstd  format = "tar.zst"
	formatZip   format = "zip"
)

// formatOfType knows the media types of archives.
func formatOfType(mediaType string) (f format, ok bool) {
	base, _, _ := strings.Cut(mediaType, ";")
	switch strings.ToLower(strings.TrimSpace(base)) {
	case "application/octet-stream":
		return "", true
	case "application/x-tar":
		return formatTar, true
	case "application/gzip", "application/x-gzip", "application/x-gtar", "application/x-compressed-tar":
		return formatGzip, true
	case "application/x-bzip2", "application/x-bzip", "application/x-bzip-compressed-tar":
		return formatBzip2, true
	case "application/zstd", "application/x-zstd-compressed-tar":
		return formatZstd, true
	case "application/zip", "application/x-zip-compressed":
		return formatZip, true
	}
	return "", false
}

// sniff tells the format of an archive by its first bytes.
func sniff(head []byte) format {
	starts := func(magic string) bool { return bytes.HasPrefix(head, []byte(magic)) }
	switch {
	case starts("\x1f\x8b"):
		return formatGzip
	case starts("BZh"):
		return formatBzip2
	case starts("\x28\xb5\x2f\xfd"):
		return formatZstd
	case starts("PK\x03\x04"), starts("PK\x05\x06"):
		return formatZip
	case len(head) >= 262 && string(head[257:262]) == "ustar", len(head) >= 512 && allZero(head):
		return formatTar
	}
	return ""
}

func allZero(p []byte) bool { return len(bytes.Trim(p, "\x00")) == 0 }

// unpack stores the tree that is in an archive and returns its root.
func (f *Fetcher) unpack(ctx context.Context, q *query, s *spool) (cas.Digest, error) {
	head := make([]byte, 512)
	n, err := s.ReadAt(head, 0)
	if err != nil && err != io.EOF {
		return cas.Digest{}, spoolError(err)
	}
	got := sniff(head[:n])
	switch {
	case got == "":
		return cas.Digest{}, fault(ErrBroken, "the content is no archive that can be unpacked here: tar, also with gzip, bzip2 or zstd, and zip can")
	case q.format != "" && got != q.format:
		return cas.Digest{}, fault(ErrBroken, "the content is %s, and not %s as resource_type says", got, q.format)
	}
	b := newBuilder(ctx, f.options.Store, q.Function, f.options.Origin.options)
	defer b.release()
	if got == formatZip {
		err = b.unzip(ctx, s)
	} else {
		err = b.untar(ctx, got, s.reader())
	}
	if err != nil {
		return cas.Digest{}, archiveFault(ctx, err)
	}
	return b.finish(ctx, q.directory)
}

// archiveFault tells damage of an archive from faults of this side: the readers
// of archives have no common kind of error, so it is all that is not known.
func archiveFault(ctx context.Context, err error) error {
	var known *OriginError
	var own *storeError
	switch {
	case ctx.Err() != nil:
		return context.Cause(ctx)
	case errors.As(err, &known), errors.As(err, &own):
		return err
	}
	return fault(ErrBroken, "the archive is damaged: %.300v", err)
}

// maxZstdWindow is what a zstd frame may make us hold in memory: what the
// zstd program makes with --ultra -22.
const maxZstdWindow = 128 << 20

// decompress returns the tar file that is in r.
func decompress(f format, r io.Reader) (io.ReadCloser, error) {
	r = bufio.NewReader(r)
	switch f {
	case formatGzip:
		return gzip.NewReader(r)
	case formatBzip2:
		return io.NopCloser(bzip2.NewReader(r)), nil
	case formatZstd:
		d, err := zstd.NewReader(r, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxWindow(maxZstdWindow))
		if err != nil {
			return nil, err
		}
		return d.IOReadCloser(), nil
	default:
		return io.NopCloser(r), nil
	}
}

// untar reads a tar file to its very end, so that a compressed one is checked.
func (b *builder) untar(ctx context.Context, f format, r io.Reader) (err error) {
	stream, err := decompress(f, r)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, stream.Close()) }()
	limited := &limitedReader{ctx: ctx, r: stream, left: b.limits.MaxUnpackedBytes, max: b.limits.MaxUnpackedBytes}
	tr := tar.NewReader(limited)
	for {
		h, err := tr.Next()
		if err == io.EOF {
			_, err = io.Copy(io.Discard, limited)
			return err
		}
		if err != nil {
			return err
		}
		if err := b.addTar(ctx, h, tr); err != nil {
			return err
		}
	}
}

func (b *builder) addTar(ctx context.Context, h *tar.Header, r io.Reader) error {
	switch h.Typeflag {
	case tar.TypeXGlobalHeader: // git puts its commit there
		return nil
	case tar.TypeDir:
		return b.addDirectory(h.Name)
	case tar.TypeReg, tar.TypeCont, tar.TypeGNUSparse:
		return b.addFile(ctx, h.Name, h.Mode&0o111 != 0, r)
	case tar.TypeSymlink:
		return b.addSymlink(h.Name, h.Linkname)
	case tar.TypeLink:
		return b.addHardLink(h.Name, h.Linkname)
	}
	return fault(ErrBroken, "the archive has an entry %s that is no file, directory or link (tar type %q)", quote(h.Name), h.Typeflag)
}

// maxTarget is more than a symbolic link can have.
const maxTarget = 4096

// maxZipDirectory bounds the list of files that a zip file ends with, which is
// read into memory as a whole.
const maxZipDirectory = 256 << 20

func (b *builder) unzip(ctx context.Context, s *spool) error {
	r := &limitedReaderAt{r: s, left: maxZipDirectory}
	zr, err := zip.NewReader(r, s.size)
	if err != nil && !errors.Is(err, zip.ErrInsecurePath) { // which are looked at below
		return err
	}
	r.unlimited = true
	for _, f := range zr.File {
		if err := b.addZip(ctx, f); err != nil {
			return err
		}
	}
	return nil
}

func (b *builder) addZip(ctx context.Context, f *zip.File) error {
	mode := f.Mode()
	if strings.Contains(f.Name, `\`) {
		return fault(ErrBroken, "the zip file has an entry %s with a backslash: the format wants slashes between names", quote(f.Name))
	}
	if strings.HasSuffix(f.Name, "/") || mode.IsDir() {
		return b.addDirectory(f.Name)
	}
	if b.has(f.Name) {
		return fault(ErrBroken, "the zip file has two entries %s", quote(f.Name))
	}
	r, err := f.Open()
	if err != nil {
		return err
	}
	defer r.Close()
	switch mode.Type() {
	case 0:
		return b.addFile(ctx, f.Name, mode&0o111 != 0, r)
	case fs.ModeSymlink:
		target, err := io.ReadAll(io.LimitReader(r, maxTarget+1))
		if err != nil {
			return err
		}
		return b.addSymlink(f.Name, string(target))
	}
	return fault(ErrBroken, "the zip file has an entry %s that is no file, directory or symbolic link", quote(f.Name))
}
