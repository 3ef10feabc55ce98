package asset

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"time"

	"github.com/hearth-build/hearth/cas"
	"github.com/hearth-build/hearth/cas/tree"
)

// Push makes content that is in the store the answer to Requests with these
// URIs and qualifiers, in place of what was pushed for them before. What the
// store lacks is in one *cas.MissingError. A blob must have one of the
// checksums of its qualifiers; that a tree comes from an archive with them is
// taken on trust, as all other qualifiers are.
func (f *Fetcher) Push(ctx context.Context, p Push) error {
	q, err := checkPush(p)
	if err != nil {
		return err
	}
	if may := f.options.MayPush; may != nil {
		for _, uri := range p.URIs {
			if !may(ctx, uri) {
				return fmt.Errorf("%w: %s", ErrForbidden, redact(uri))
			}
		}
	}
	if err := f.checkPresent(ctx, p); err != nil {
		return err
	}
	if p.Kind == Blob {
		if err := f.checkIntegrity(ctx, p.Digest, q.integrity); err != nil {
			return err
		}
	}
	var keys []cas.Digest
	for _, uri := range p.URIs {
		keys = append(keys, pushedKey(p.Digest.Function(), p.Kind, uri, q.Qualifiers))
	}
	return f.associations.put(ctx, keys, association{
		kind: p.Kind, digest: p.Digest, blobs: p.Blobs, directories: p.Directories,
		since: time.Now(), expires: p.Expires,
	})
}

// checkPush checks the form of a push by the rules for requests, and more
// strictly: what no request can have must not be pushed.
func checkPush(p Push) (*query, error) {
	if p.Digest.IsZero() {
		return nil, fmt.Errorf("%w: it has no digest", ErrInvalid)
	}
	q, err := parse(Request{Kind: p.Kind, URIs: p.URIs, Qualifiers: p.Qualifiers, Function: p.Digest.Function()})
	if err != nil {
		return nil, err
	}
	for _, t := range q.targets {
		if !t.valid {
			return nil, fmt.Errorf("%w: URI %s is malformed", ErrInvalid, quote(redact(t.uri)))
		}
	}
	return q, nil
}

// checkPresent wants all in the store that the push names.
func (f *Fetcher) checkPresent(ctx context.Context, p Push) error {
	blobs, roots := p.Blobs, p.Directories
	if p.Kind == Blob {
		blobs = append([]cas.Digest{p.Digest}, blobs...)
	} else {
		roots = append([]cas.Digest{p.Digest}, roots...)
	}
	for _, root := range roots {
		g, err := tree.Load(ctx, f.options.Store, root, tree.Limits{})
		if err != nil {
			return fmt.Errorf("check the pushed directory: %w", err)
		}
		blobs = append(blobs, g.Files()...)
	}
	for _, d := range append(roots, blobs...) {
		if d.Function() != p.Digest.Function() {
			return fmt.Errorf("%w: %v is no digest of %v", ErrInvalid, d, p.Digest.Function())
		}
	}
	missing, err := f.options.Store.FindMissing(ctx, blobs)
	if err != nil {
		return fmt.Errorf("look for pushed content: %w", err)
	}
	if len(missing) > 0 {
		return fmt.Errorf("push what is not uploaded: %w", &cas.MissingError{Digests: missing})
	}
	return nil
}

// checkIntegrity holds a blob against checksums, without reading it if one says
// what its digest does.
func (f *Fetcher) checkIntegrity(ctx context.Context, d cas.Digest, sums integrity) error {
	if len(sums) == 0 {
		return nil
	}
	for _, c := range sums {
		if d.Function() == cas.SHA256 && len(c.sum) == sha256.Size && hex.EncodeToString([]byte(c.sum)) == d.Hash() {
			return nil
		}
	}
	hs := sums.start()
	blob, err := f.options.Store.Get(ctx, d, 0)
	if err != nil {
		return fmt.Errorf("check pushed content: %w", err)
	}
	defer blob.Close()
	if _, err := io.Copy(hs, blob); err != nil {
		return fmt.Errorf("check pushed content: %w", err)
	}
	if len(sums.matched(hs)) == 0 {
		return fmt.Errorf("%w: the blob has none of the checksums of its qualifier %s", ErrInvalid, checksumSRI)
	}
	return nil
}
