package main

import (
	"cmp"
	"context"
	"fmt"
	"net/url"
	"strconv"
	"strings"

	repb "github.com/bazelbuild/remote-apis/build/bazel/remote/execution/v2"

	"github.com/hearth-build/hearth/cas"
	"github.com/hearth-build/hearth/reapi/console"
)

// actionsCmd is `hearth actions`.
type actionsCmd struct {
	List             listActionsCmd      `cmd:"" help:"List the actions that ended lately."`
	Show             showActionCmd       `cmd:"" help:"Show an action: command, environment, platform, inputs, result, and what took how long."`
	Logs             actionLogsCmd       `cmd:"" help:"Print what an action wrote to stdout and stderr."`
	Rerun            rerunActionCmd      `cmd:"" help:"Run an action again, with the same inputs in the same image, and print what differs from its recorded result."`
	Shell            shellActionCmd      `cmd:"" help:"Open a shell where an action would run: on this host, in the same image, with its inputs, environment and isolation."`
	CheckDeterminism checkDeterminismCmd `cmd:"" help:"Run an action several times and print which outputs differ."`
}

// actionFlags say which action is meant, and where it is.
type actionFlags struct {
	identityFlags

	Digest         string `arg:"" help:"HASH/SIZE of the action; or its hash, or the beginning of it, if the server remembers the action."`
	Endpoint       string `help:"Server that has the action." default:"${local_endpoint}"`
	Console        string `help:"Console of that server." default:"http://127.0.0.1:8981"`
	Instance       string `help:"REAPI instance name; default: the one that the server remembers of the action, or the empty one."`
	DigestFunction string `help:"Digest function of the hash, such as blake3; default: what the server remembers, or what the length says." placeholder:"NAME"`
}

// consoleURL is an URL of a console, which may be given without http://.
func consoleURL(base string, parts ...string) string {
	if !strings.Contains(base, "://") {
		base = "http://" + base
	}
	return strings.TrimSuffix(base, "/") + "/" + strings.Join(parts, "")
}

// found is the action that was meant, with what the server remembers of it.
type found struct {
	digest cas.Digest
	client *reapiClient
	runs   []*console.Action // the latest first
	// silence is why nothing is remembered, if nothing is.
	silence error
}

// find finds the action. The caller closes its client.
func (c *actionFlags) find(ctx context.Context) (*found, error) {
	f := &found{}
	function, hash, size := splitDigest(c.Digest)
	address := consoleURL(c.Console, "actions/", url.PathEscape(hash))
	if size != "" {
		address += "/" + url.PathEscape(size)
	}
	f.silence = c.getConsole(ctx, address, &f.runs)
	if size == "" && f.silence != nil {
		return nil, fmt.Errorf("action %s: %w; give HASH/SIZE", c.Digest, f.silence)
	}
	function, instance := cmp.Or(c.DigestFunction, function), c.Instance
	if len(f.runs) > 0 {
		last := f.runs[0]
		_, hash, size = splitDigest(last.Digest)
		function, instance = cmp.Or(function, last.DigestFunction), cmp.Or(instance, last.Instance)
	}
	var err error
	if f.digest, err = actionDigest(function, hash, size); err != nil {
		return nil, err
	}
	f.client, err = dialREAPI(&c.identityFlags, c.Endpoint, instance)
	return f, err
}

// splitDigest takes a digest apart that is written in one of the ways in which
// hearth prints them: HASH, HASH/SIZE, FUNCTION/HASH/SIZE or FUNCTION:HASH/SIZE.
func splitDigest(text string) (function, hash, size string) {
	if before, after, ok := strings.Cut(text, ":"); ok {
		function, text = before, after
	} else if strings.Count(text, "/") == 2 {
		function, text, _ = strings.Cut(text, "/")
	}
	hash, size, _ = strings.Cut(text, "/")
	return function, hash, size
}

// actionDigest makes a digest; without a function the length of the hash says
// which it is.
func actionDigest(function, hash, size string) (cas.Digest, error) {
	n, err := strconv.ParseInt(size, 10, 64)
	if err != nil {
		return cas.Digest{}, fmt.Errorf("the size %q of the digest is not a number: want HASH/SIZE", size)
	}
	named := repb.DigestFunction_UNKNOWN
	if function != "" {
		number, ok := repb.DigestFunction_Value_value[strings.ToUpper(function)]
		if !ok {
			return cas.Digest{}, fmt.Errorf("digest function %q is not one of %v", function, cas.Functions())
		}
		named = repb.DigestFunction_Value(number)
	}
	return cas.FromProto(named, &repb.Digest{Hash: hash, SizeBytes: n})
}
