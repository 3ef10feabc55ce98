package main

import (
	"context"
	"encoding/json"
	"errors"
	"io"

	repb "github.com/bazelbuild/remote-apis/build/bazel/remote/execution/v2"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"

	"github.com/hearth-build/hearth/reapi/console"
)

// shownAction is what `hearth actions show` prints as JSON.
type shownAction struct {
	Digest   string          `json:"digest"`
	Instance string          `json:"instance"`
	Action   json.RawMessage `json:"action"`
	Command  json.RawMessage `json:"command"`
	// Result is the last that is recorded, with where; null if none is.
	Result json.RawMessage `json:"result"`
	Origin string          `json:"origin,omitempty"`
	// Runs are the latest first, as far as the server remembers them.
	Runs []*console.Action `json:"runs"`
}

func (f *found) showJSON(ctx context.Context, w io.Writer, action *repb.Action, command *repb.Command) error {
	shown := shownAction{Digest: f.digest.String(), Instance: f.client.instance, Runs: f.runs}
	out, err := f.recorded(ctx)
	if err != nil && !errors.Is(err, errNoResult) {
		return err
	}
	if err == nil && out.result != nil {
		shown.Origin = out.origin
		if shown.Result, err = encodedResult(out.result); err != nil {
			return err
		}
	}
	if shown.Action, err = protojson.Marshal(action); err != nil {
		return err
	}
	if shown.Command, err = protojson.Marshal(command); err != nil {
		return err
	}
	return printJSON(w, shown)
}

// encodedResult leaves out what others than hearth have added, if it is not known here.
func encodedResult(result *repb.ActionResult) (json.RawMessage, error) {
	text, err := protojson.Marshal(result)
	if err == nil || len(result.GetExecutionMetadata().GetAuxiliaryMetadata()) == 0 {
		return text, err
	}
	bare := proto.CloneOf(result)
	bare.ExecutionMetadata.AuxiliaryMetadata = nil
	return protojson.Marshal(bare)
}
