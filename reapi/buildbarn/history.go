package buildbarn

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"strings"
	"time"

	repb "github.com/bazelbuild/remote-apis/build/bazel/remote/execution/v2"
	caspb "github.com/buildbarn/bb-remote-execution/pkg/proto/cas"
	"google.golang.org/protobuf/proto"

	"github.com/hearth-build/hearth/cas"
	"github.com/hearth-build/hearth/reapi/execution"
)

// historyTimeout bounds how long a result is held up so that people can look at it.
const historyTimeout = 10 * time.Second

// show makes a response one at which people can look with bb-browser. What is in the
// action cache it finds there; other responses go to the storage for that. The
// client's message gets the link.
func (a *Actions) show(ctx context.Context, op *execution.Operation, action *repb.Action, resp *repb.ExecuteResponse) {
	if ctx.Err() != nil && !errors.Is(context.Cause(ctx), execution.ErrDraining) {
		return // nobody will be told
	}
	instance := op.Request().Instance
	if resp.GetStatus().GetCode() == 0 && resp.GetResult().GetExitCode() == 0 && !action.GetDoNotCache() {
		a.link(resp, "cached", instance.Name, object{"action", op.Action()})
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), historyTimeout)
	defer cancel()
	d, err := putHistory(ctx, instance.Store, op.Action(), resp)
	if err != nil {
		a.opts.Logger.Warn("a response was not stored for bb-browser", "action", op.Action().Name(), "error", err)
		return
	}
	a.link(resp, "uncached", instance.Name, object{"historical_execute_response", d})
}

// putHistory stores a response that has no place in the action cache.
func putHistory(ctx context.Context, store cas.Putter, action cas.Digest, resp *repb.ExecuteResponse) (cas.Digest, error) {
	data, err := proto.Marshal(&caspb.HistoricalExecuteResponse{ActionDigest: action.Proto(), ExecuteResponse: resp})
	if err != nil {
		return cas.Digest{}, err
	}
	return cas.PutBytes(ctx, store, action.Function(), data)
}

// object is what bb-browser shows.
type object struct {
	kind   string
	digest cas.Digest
}

// link adds to the message where a person finds the details.
func (a *Actions) link(resp *repb.ExecuteResponse, kind, instance string, o object) {
	if a.opts.Browser == nil {
		return
	}
	text := fmt.Sprintf("Action details (%s result): %s", kind, o.url(a.opts.Browser, instance))
	if resp.GetMessage() != "" {
		text = resp.GetMessage() + "\n" + text
	}
	resp.Message = text
}

// url is where bb-browser shows the object.
func (o object) url(base *url.URL, instance string) string {
	function := strings.ToLower(o.digest.Function().Proto().String())
	return base.JoinPath(instance, "blobs", function, o.kind, fmt.Sprintf("%s-%d", o.digest.Hash(), o.digest.Size()), "/").String()
}
