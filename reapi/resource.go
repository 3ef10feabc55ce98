package reapi

import (
	"fmt"
	"strconv"
	"strings"

	repb "github.com/bazelbuild/remote-apis/build/bazel/remote/execution/v2"

	"github.com/hearth-build/hearth/cas"
)

// resource is a parsed ByteStream resource name.
type resource struct {
	instance string
	upload   string // the upload's unique id; empty when reading
	digest   cas.Digest
}

// parseRead parses [instance/]blobs/[function/]hash/size.
func parseRead(name string) (resource, error) {
	r, rest, err := splitName(name, "blobs")
	if err != nil {
		return resource{}, err
	}
	rest, err = r.parseDigest(name, rest)
	if err == nil && len(rest) > 0 {
		err = fmt.Errorf("%w: resource name %q goes on after the size", errInvalid, clip(name))
	}
	return r, err
}

// parseWrite parses [instance/]uploads/id/blobs/[function/]hash/size[/anything].
func parseWrite(name string) (resource, error) {
	r, rest, err := splitName(name, "uploads")
	if err != nil {
		return resource{}, err
	}
	if len(rest) < 2 || rest[0] == "" {
		return resource{}, fmt.Errorf("%w: resource name %q has no upload id", errInvalid, clip(name))
	}
	r.upload = rest[0]
	if rest[1] == "compressed-blobs" {
		return resource{}, errCompressed(name)
	}
	if rest[1] != "blobs" {
		return resource{}, fmt.Errorf("%w: in resource name %q \"blobs\" must follow the upload id", errInvalid, clip(name))
	}
	_, err = r.parseDigest(name, rest[2:])
	return r, err
}

// splitName divides a name at its first keyword, which must be the wanted one.
// What is before it is the instance name.
func splitName(name, want string) (resource, []string, error) {
	segments := strings.Split(name, "/")
	for i, s := range segments {
		switch {
		case s == want:
			r := resource{instance: strings.Join(segments[:i], "/")}
			return r, segments[i+1:], CheckInstanceName(r.instance)
		case s == "compressed-blobs":
			return resource{}, nil, errCompressed(name)
		case reserved(s):
			return resource{}, nil, fmt.Errorf("%w: resource name %q has %q where this call wants %q", errInvalid, clip(name), s, want)
		}
	}
	return resource{}, nil, fmt.Errorf("%w: resource name %q has no %q in it", errInvalid, clip(name), want)
}

func errCompressed(name string) error {
	return fmt.Errorf("%w: resource name %q asks for compression, which this server does not announce", errInvalid, clip(name))
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

// clip keeps what a client sent from flooding messages.
func clip(s string) string {
	const most = 200
	if len(s) <= most {
		return s
	}
	return s[:most] + "..."
}
