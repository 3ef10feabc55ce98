package reapi

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	repb "github.com/bazelbuild/remote-apis/build/bazel/remote/execution/v2"

	"github.com/hearth-build/hearth/cas"
	"github.com/hearth-build/hearth/reapi/execution"
)

// resource is a parsed ByteStream resource name.
type resource struct {
	instance   string
	of         *execution.Instance // whose name that is, once it was looked up
	upload     string              // the upload's unique id; empty when reading
	compressor repb.Compressor_Value
	digest     cas.Digest
}

func (r resource) compressed() bool { return r.compressor != repb.Compressor_IDENTITY }

// Keywords of resource names.
const (
	plainKeyword  = "blobs"
	packedKeyword = "compressed-blobs"
	uploadKeyword = "uploads"
)

// parseRead parses [instance/]blobs/[function/]hash/size and
// [instance/]compressed-blobs/compressor/[function/]hash/size.
func parseRead(name string) (resource, error) {
	r, rest, err := splitName(name, plainKeyword, packedKeyword)
	if err != nil {
		return resource{}, err
	}
	rest, err = r.parseBlob(name, rest)
	if err == nil && len(rest) > 0 {
		err = fmt.Errorf("%w: resource name %q goes on after the size", errInvalid, clip(name))
	}
	return r, err
}

// parseWrite parses [instance/]uploads/id/ and then what parseRead does, with
// /anything behind it.
func parseWrite(name string) (resource, error) {
	r, rest, err := splitName(name, uploadKeyword)
	if err != nil {
		return resource{}, err
	}
	if len(rest) < 3 || rest[1] == "" {
		return resource{}, fmt.Errorf("%w: resource name %q has no upload id", errInvalid, clip(name))
	}
	r.upload = rest[1]
	_, err = r.parseBlob(name, rest[2:])
	return r, err
}

// splitName divides a name before its first keyword, which must be one of the
// wanted ones. What is before it is the instance name.
func splitName(name string, wanted ...string) (resource, []string, error) {
	segments := strings.Split(name, "/")
	for i, s := range segments {
		switch {
		case slices.Contains(wanted, s):
			r := resource{instance: strings.Join(segments[:i], "/")}
			return r, segments[i:], CheckInstanceName(r.instance)
		case reserved(s):
			return resource{}, nil, fmt.Errorf("%w: resource name %q has %q where this call wants %q", errInvalid, clip(name), s, wanted)
		}
	}
	return resource{}, nil, fmt.Errorf("%w: resource name %q has none of %q in it", errInvalid, clip(name), wanted)
}

// parseBlob takes blobs/ or compressed-blobs/compressor/ and a digest off the
// segments.
func (r *resource) parseBlob(name string, segments []string) ([]string, error) {
	switch {
	case segments[0] == plainKeyword:
		return r.parseDigest(name, segments[1:])
	case segments[0] != packedKeyword:
		return nil, fmt.Errorf("%w: in resource name %q %q or %q must follow the upload id", errInvalid, clip(name), plainKeyword, packedKeyword)
	case len(segments) < 2:
		return nil, fmt.Errorf("%w: resource name %q names no compressor", errInvalid, clip(name))
	}
	var err error
	if r.compressor, err = compressorNamed(segments[1]); err != nil {
		return nil, fmt.Errorf("resource name %q: %w", clip(name), err)
	}
	return r.parseDigest(name, segments[2:])
}

// parseDigest takes [function/]hash/size off the segments.
func (r *resource) parseDigest(name string, segments []string) ([]string, error) {
	function := repb.DigestFunction_UNKNOWN
	if len(segments) > 2 {
		for _, f := range cas.Functions() {
			if f.Named() && segments[0] == f.String() {
				function, segments = f.Proto(), segments[1:]
				break
			}
		}
	}
	if len(segments) < 2 {
		return nil, fmt.Errorf("%w: resource name %q ends before hash and size", errInvalid, clip(name))
	}
	size, err := strconv.ParseUint(segments[1], 10, 63)
	if err != nil {
		return nil, fmt.Errorf("%w: %q in resource name %q is not a size", errInvalid, clip(segments[1]), clip(name))
	}
	r.digest, err = cas.FromProto(function, &repb.Digest{Hash: segments[0], SizeBytes: int64(size)})
	return segments[2:], err
}

// clip keeps what a client sent from flooding messages. It cuts no character in two: what
// is no UTF-8 cannot be sent.
func clip(s string) string {
	const most = 200
	if len(s) <= most {
		return s
	}
	return strings.ToValidUTF8(s[:most], "") + "..."
}
