package reapi

import (
	"strings"
	"testing"

	repb "github.com/bazelbuild/remote-apis/build/bazel/remote/execution/v2"
	"google.golang.org/protobuf/proto"
)

// REAPI I1: what a client says about itself can be told to others, wherever it is cut.
func TestMetadataIsCutBetweenCharacters(t *testing.T) {
	for lead := range 4 {
		long := strings.Repeat("a", lead) + strings.Repeat("ж", 300)
		m := ClipMetadata(&repb.RequestMetadata{ToolInvocationId: long, TargetId: long, ActionMnemonic: long, CorrelatedInvocationsId: long})
		if _, err := proto.Marshal(m); err != nil {
			t.Errorf("after %d characters of one byte: %v", lead, err)
		}
		if id := m.GetTargetId(); len(id) > 300 || !strings.HasPrefix(long, strings.TrimSuffix(id, "...")) {
			t.Errorf("%q became %q", long, id)
		}
	}
}
