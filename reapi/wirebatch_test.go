package reapi

import (
	"bytes"
	"math"
	"math/rand/v2"
	"strings"
	"testing"

	repb "github.com/bazelbuild/remote-apis/build/bazel/remote/execution/v2"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
)

// updateMessages are encoded requests, usual ones and others.
func updateMessages(t testing.TB) map[string][]byte {
	encode := func(m proto.Message) []byte {
		data, err := proto.Marshal(m)
		if err != nil {
			t.Fatal(err)
		}
		return data
	}
	digest := &repb.Digest{Hash: strings.Repeat("0af1", 16), SizeBytes: 5}
	entry := encode(&repb.BatchUpdateBlobsRequest_Request{Digest: digest, Data: []byte("bytes")})
	// with makes a message of one entry.
	with := func(parts ...[]byte) []byte {
		return protowire.AppendBytes(protowire.AppendTag(nil, fieldRequests, protowire.BytesType), join(parts...))
	}
	unknown := protowire.AppendVarint(protowire.AppendTag(nil, 99, protowire.VarintType), 7)
	group := protowire.AppendTag(protowire.AppendTag(nil, 98, protowire.StartGroupType), 98, protowire.EndGroupType)
	many := &repb.BatchUpdateBlobsRequest{InstanceName: "some/instance", DigestFunction: repb.DigestFunction_BLAKE3}
	for i := range 100 {
		many.Requests = append(many.Requests, &repb.BatchUpdateBlobsRequest_Request{
			Digest: &repb.Digest{Hash: strings.Repeat(string('a'+rune(i%6)), 64), SizeBytes: math.MaxInt64 - int64(i)},
			Data:   bytes.Repeat([]byte{byte(i)}, 37*i), Compressor: repb.Compressor_Value(i % 3),
		})
	}
	other := encode(&repb.BatchUpdateBlobsRequest_Request{Digest: &repb.Digest{Hash: "x"}})
	return map[string][]byte{
		"empty":               {},
		"many":                encode(many),
		"one":                 with(entry),
		"negative size":       with(encode(&repb.BatchUpdateBlobsRequest_Request{Digest: &repb.Digest{Hash: digest.Hash, SizeBytes: -1}})),
		"no digest":           with(encode(&repb.BatchUpdateBlobsRequest_Request{Data: bytes.Repeat([]byte("x"), 50)})),
		"empty entry":         with(),
		"entries and empty":   join(with(entry), with(), with(entry)),
		"digest twice":        with(entry, other),
		"data twice":          with(entry, encode(&repb.BatchUpdateBlobsRequest_Request{Data: []byte("later")})),
		"data emptied":        with(entry, protowire.AppendTag(nil, fieldBlob, protowire.BytesType), []byte{0}),
		"instance last":       join(with(entry), encode(&repb.BatchUpdateBlobsRequest{InstanceName: "a"}), encode(&repb.BatchUpdateBlobsRequest{InstanceName: "b"})),
		"unknown outside":     join(unknown, with(entry)),
		"unknown inside":      with(entry, unknown),
		"group":               join(with(entry), group),
		"large enum":          with(entry, protowire.AppendVarint(protowire.AppendTag(nil, fieldCompressor, protowire.VarintType), 1<<40+3)),
		"wrong type":          with(entry, protowire.AppendVarint(protowire.AppendTag(nil, fieldBlob, protowire.VarintType), 3)),
		"requests as numbers": protowire.AppendVarint(protowire.AppendTag(nil, fieldRequests, protowire.VarintType), 300),
		"hash not UTF-8":      with(entry[:10], []byte{0xff}, entry[11:]),
		"instance not UTF-8":  join(with(entry), protowire.AppendTag(nil, fieldInstance, protowire.BytesType), []byte{1, 0xff}),
		"ends in an entry":    with(entry)[:40],
		"ends in a tag":       join(with(entry), []byte{0x80}),
		"field 0":             join(with(entry), []byte{0, 0}),
	}
}

// REAPI 0.4: whatever the encoding, a batch means what the protobuf library says.
func FuzzUpdateMessage(f *testing.F) {
	for _, encoded := range updateMessages(f) {
		f.Add(encoded, uint64(5))
	}
	f.Fuzz(func(t *testing.T, encoded []byte, seed uint64) {
		var want, got repb.BatchUpdateBlobsRequest
		wantErr := proto.Unmarshal(encoded, &want)
		got.InstanceName = "left over"
		err := newWireCodec().Unmarshal(cut(encoded, rand.New(rand.NewPCG(seed, 6))), &got)
		if (err == nil) != (wantErr == nil) {
			t.Errorf("%v, want %v", err, wantErr)
		}
		if err == nil && !proto.Equal(&got, &want) {
			t.Errorf("%v, want %v", &got, &want)
		}
	})
}

// What takes many times its size in memory is left to the library, which takes less of it.
func TestUpdateMessageOfManyEmptyEntries(t *testing.T) {
	tiny := protowire.AppendBytes(protowire.AppendTag(nil, fieldRequests, protowire.BytesType), nil)
	var m updateMessage
	if m.decode(bytes.Repeat(tiny, 1000), new(repb.BatchUpdateBlobsRequest)) || m.entries != nil {
		t.Errorf("%d entries were made of 1000 empty ones", len(m.entries))
	}
}

// Memory for blobs is handed out once for each message, not once for each blob.
func TestUpdateMessageAllocates(t *testing.T) {
	encoded := updateMessages(t)["many"]
	message := cut(encoded, rand.New(rand.NewPCG(7, 8)))
	var req repb.BatchUpdateBlobsRequest
	n := testing.AllocsPerRun(20, func() {
		if err := newWireCodec().Unmarshal(message, &req); err != nil {
			t.Fatal(err)
		}
	})
	if most := 110.0; n > most { // the strings of 100 hashes, and few more
		t.Errorf("%v allocations for 100 blobs, want at most %v", n, most)
	}
}
