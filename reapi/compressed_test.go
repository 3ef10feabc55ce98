package reapi_test

import (
	"bytes"
	"compress/flate"
	"fmt"
	"io"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"

	repb "github.com/bazelbuild/remote-apis/build/bazel/remote/execution/v2"
	"github.com/klauspost/compress/zstd"
	"google.golang.org/genproto/googleapis/bytestream"
	"google.golang.org/grpc/codes"

	"github.com/hearth-build/hearth/cas"
)

// packers are what clients compress with.
func packers() map[string]func(t *testing.T, data []byte) []byte {
	return map[string]func(t *testing.T, data []byte) []byte{
		"zstd": func(t *testing.T, data []byte) []byte { return packZstd(t, data) },
		"deflate": func(t *testing.T, data []byte) []byte {
			var buf bytes.Buffer
			w, err := flate.NewWriter(&buf, flate.DefaultCompression)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := w.Write(data); err != nil {
				t.Fatal(err)
			}
			if err := w.Close(); err != nil {
				t.Fatal(err)
			}
			return buf.Bytes()
		},
	}
}

func packZstd(t *testing.T, data []byte, options ...zstd.EOption) []byte {
	t.Helper()
	var buf bytes.Buffer
	w, err := zstd.NewWriter(&buf, options...)
	if err != nil {
		t.Fatal(err)
	}
	// In two parts, so that the encoder cannot know the size beforehand.
	for _, part := range [][]byte{data[:len(data)/2], data[len(data)/2:]} {
		if _, err := w.Write(part); err != nil {
			t.Fatal(err)
		}
		if err := w.Flush(); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return buf.Bytes()
}

// unpackers are what clients decompress with.
func unpackers() map[string]func(t *testing.T, data []byte) []byte {
	read := func(t *testing.T, r io.Reader) []byte {
		t.Helper()
		data, err := io.ReadAll(r)
		if err != nil {
			t.Errorf("what came cannot be decompressed: %v", err)
		}
		return data
	}
	return map[string]func(t *testing.T, data []byte) []byte{
		"zstd": func(t *testing.T, data []byte) []byte {
			r, err := zstd.NewReader(bytes.NewReader(data))
			if err != nil {
				t.Fatal(err)
			}
			defer r.Close()
			return read(t, r)
		},
		"deflate": func(t *testing.T, data []byte) []byte { return read(t, flate.NewReader(bytes.NewReader(data))) },
	}
}

// text is data that compress to about a fifth, and differ everywhere.
func text(size int) []byte {
	r := rand.New(rand.NewPCG(1, 2))
	var b bytes.Buffer
	for b.Len() < size {
		fmt.Fprintf(&b, "line %d: the word is %d, and nothing else\n", b.Len(), r.IntN(1000))
	}
	return b.Bytes()[:size]
}

// sizes are around what matters: empty, one message, whole blobs, a window.
func sizes() []int { return []int{0, 1, 1000, 600_000, 1 << 20, 1<<20 + 1, 2_500_000} }

// REAPI A16, D32, D33, D35.
func TestReadCompressed(t *testing.T) {
	f := newFixture(t)
	for _, size := range sizes() {
		blob := text(size)
		f.put(blob)
		for name, unpack := range unpackers() {
			for _, offset := range []int{0, size / 2, size} {
				if offset > size {
					continue
				}
				got, err := f.read(&bytestream.ReadRequest{
					ResourceName: "compressed-blobs/" + name + "/" + cas.SHA256.Sum(blob).Name(), ReadOffset: int64(offset),
				})
				if err != nil {
					t.Fatalf("%s, %d bytes from %d: %v", name, size, offset, err)
				}
				if plain := unpack(t, got); !bytes.Equal(plain, blob[offset:]) {
					t.Errorf("%s, %d bytes from %d: got %d other bytes", name, size, offset, len(plain))
				}
				if size > 1000 && offset == 0 && len(got) > size/2 {
					t.Errorf("%s, %d bytes: sent %d, which is no compression", name, size, len(got))
				}
			}
		}
	}
}

// REAPI D4, D30, D32.
func TestReadCompressedRefuses(t *testing.T) {
	f := newFixture(t)
	blob := text(5000)
	f.put(blob)
	name := cas.SHA256.Sum(blob).Name()
	for what, tc := range map[string]struct {
		req  *bytestream.ReadRequest
		code codes.Code
	}{
		"limit":             {&bytestream.ReadRequest{ResourceName: "compressed-blobs/zstd/" + name, ReadLimit: 5}, codes.InvalidArgument},
		"beyond the end":    {&bytestream.ReadRequest{ResourceName: "compressed-blobs/zstd/" + name, ReadOffset: 5001}, codes.OutOfRange},
		"before the start":  {&bytestream.ReadRequest{ResourceName: "compressed-blobs/zstd/" + name, ReadOffset: -1}, codes.OutOfRange},
		"absent":            {&bytestream.ReadRequest{ResourceName: "compressed-blobs/zstd/" + cas.SHA256.Sum([]byte("gone")).Name()}, codes.NotFound},
		"identity":          {&bytestream.ReadRequest{ResourceName: "compressed-blobs/identity/" + name}, codes.InvalidArgument},
		"not served":        {&bytestream.ReadRequest{ResourceName: "compressed-blobs/brotli/" + name}, codes.InvalidArgument},
		"unknown":           {&bytestream.ReadRequest{ResourceName: "compressed-blobs/lzma/" + name}, codes.InvalidArgument},
		"upper case":        {&bytestream.ReadRequest{ResourceName: "compressed-blobs/ZSTD/" + name}, codes.InvalidArgument},
		"no compressor":     {&bytestream.ReadRequest{ResourceName: "compressed-blobs/" + name}, codes.InvalidArgument},
		"nothing":           {&bytestream.ReadRequest{ResourceName: "compressed-blobs"}, codes.InvalidArgument},
		"compressor behind": {&bytestream.ReadRequest{ResourceName: "compressed-blobs/blake3/zstd/" + name}, codes.InvalidArgument},
		"write name":        {&bytestream.ReadRequest{ResourceName: "uploads/u/compressed-blobs/zstd/" + name}, codes.InvalidArgument},
	} {
		_, err := f.read(tc.req)
		wantCode(t, what, err, tc.code)
	}
}

func packedUpload(compressor string, d cas.Digest) string {
	return "uploads/3f2504e0-4f89-41d3-9a0c-0305e82c3301/compressed-blobs/" + compressor + "/" + d.Name()
}

// inMessages cuts an upload into messages.
func inMessages(name string, data []byte, size int) []*bytestream.WriteRequest {
	var messages []*bytestream.WriteRequest
	for at := 0; ; at += size {
		end := min(at+size, len(data))
		messages = append(messages, &bytestream.WriteRequest{ResourceName: name, WriteOffset: int64(at), Data: data[at:end], FinishWrite: end == len(data)})
		if end == len(data) {
			return messages
		}
	}
}

// REAPI A16, D2, D9, D17, D19, D25, D35: every function and compressor.
func TestWriteCompressed(t *testing.T) {
	for name, pack := range packers() {
		f := newFixture(t)
		for i, size := range sizes() {
			blob := text(size)
			fn := cas.Functions()[i%len(cas.Functions())]
			d, packed := fn.Sum(blob), pack(t, blob)
			committed, err := f.write(inMessages(packedUpload(name, d)+"/some/blobs/uploads", packed, 100_000)...)
			if err != nil || committed != int64(len(packed)) && committed != -1 {
				t.Errorf("%s, %d bytes: committed %d of %d, %v", name, size, committed, len(packed), err)
			}
			if got, err := f.read(&bytestream.ReadRequest{ResourceName: "blobs/" + d.Name()}); err != nil || !bytes.Equal(got, blob) {
				t.Errorf("%s, %d bytes: read %d, %v", name, size, len(got), err)
			}
			q, err := bytestream.NewByteStreamClient(f.conn).QueryWriteStatus(t.Context(), &bytestream.QueryWriteStatusRequest{ResourceName: packedUpload(name, d)})
			if err != nil || !q.GetComplete() {
				t.Errorf("%s, %d bytes: status %v, %v", name, size, q, err)
			}
			// REAPI D16: present now, so that nothing is read.
			if committed, err = f.write(inMessages(packedUpload(name, d), []byte("nonsense"), 3)...); err != nil || committed != -1 {
				t.Errorf("%s, %d bytes again: committed %d, %v", name, size, committed, err)
			}
		}
	}
}

// REAPI D17, D19: the sizes that clients compare committed_size with.
func TestCommittedSizeOfCompressedBlob(t *testing.T) {
	f := newFixture(t)
	for name, pack := range packers() {
		blob := append(text(3_000_000), name...)
		packed := pack(t, blob)
		if committed, err := f.write(inMessages(packedUpload(name, cas.SHA256.Sum(blob)), packed, 50_000)...); err != nil || committed != int64(len(packed)) {
			t.Errorf("%s: committed %d of %d, %v", name, committed, len(packed), err)
		}
	}
}

// hugeWindow is a frame for 1 byte that asks for a window of 1 GiB.
func hugeWindow() []byte {
	const windowDescriptor = 20 << 3 // 2^(10+20)
	return []byte{0x28, 0xb5, 0x2f, 0xfd, 0x00, windowDescriptor, 0x09, 0x00, 0x00, 'x'}
}

// REAPI C12, D9, D15, D19, 0.1, 0.2: small blobs are collected, large ones are
// streamed, and batches have a way of their own: all must refuse the same.
func TestCompressedUploadRefuses(t *testing.T) {
	for name, pack := range packers() {
		for _, size := range []int{5000, 1_100_000} {
			blob := text(size)
			d, good := cas.SHA256.Sum(blob), pack(t, blob)
			flipped := bytes.Clone(good)
			flipped[len(flipped)/2] ^= 0x55
			// Each is refused for another reason.
			bad := map[string][]byte{
				"no compressed data":      blob,
				"nothing":                 {},
				"trailing garbage":        append(bytes.Clone(good), "garbage"...),
				"one byte too many":       append(bytes.Clone(good), 0xff),
				"cut off":                 good[:len(good)/2],
				"last byte missing":       good[:len(good)-1],
				"flipped":                 flipped,
				"another blob":            pack(t, bytes.ToUpper(blob)),
				"one byte too many plain": pack(t, append(bytes.Clone(blob), 'x')),
				"one byte too few plain":  pack(t, blob[:size-1]),
				"far too many plain":      pack(t, make([]byte, 10_000_000)),
			}
			if name == "zstd" {
				bad["huge window"] = hugeWindow()
				bad["empty frames for ever"] = bytes.Repeat(packZstd(t, nil, zstd.WithZeroFrames(true)), 800_000)
				bad["skipped frames for ever"] = bytes.Repeat(append([]byte{0x50, 0x2a, 0x4d, 0x18, 0, 0, 1, 0}, make([]byte, 1<<16)...), 100)
			}
			f := newFixture(t)
			for what, data := range bad {
				_, err := f.write(inMessages(packedUpload(name, d), data, 200_000)...)
				wantCode(t, fmt.Sprintf("%s, %s, %d bytes", name, what, size), err, codes.InvalidArgument)
			}
			f.refuseInBatch(name, d, bad)
			_, err := f.write(&bytestream.WriteRequest{ResourceName: packedUpload(name, d), WriteOffset: 5, Data: good[5:], FinishWrite: true})
			wantCode(t, "starts late", err, codes.InvalidArgument)
			_, err = f.write(&bytestream.WriteRequest{ResourceName: packedUpload(name, d), Data: good})
			wantCode(t, "no finish_write", err, codes.InvalidArgument)
			if missing, err := f.instances[""].Store.FindMissing(t.Context(), []cas.Digest{d}); err != nil || len(missing) != 1 {
				t.Errorf("%s: a refused blob is there: %v, %v", name, missing, err)
			}
		}
	}
}

func (f *fixture) refuseInBatch(compressor string, d cas.Digest, bad map[string][]byte) {
	f.t.Helper()
	for what, data := range bad {
		if len(data) > 3<<20 {
			continue
		}
		value := repb.Compressor_Value(repb.Compressor_Value_value[strings.ToUpper(compressor)])
		resp, err := repb.NewContentAddressableStorageClient(f.conn).BatchUpdateBlobs(f.t.Context(), &repb.BatchUpdateBlobsRequest{
			Requests: []*repb.BatchUpdateBlobsRequest_Request{{Digest: d.Proto(), Data: data, Compressor: value}},
		})
		if err != nil || codes.Code(resp.GetResponses()[0].GetStatus().GetCode()) != codes.InvalidArgument {
			f.t.Errorf("%s, %s in a batch: %v, %v", compressor, what, resp, err)
		}
	}
}

// REAPI D19: several frames, content sizes or none, frames to skip.
func TestZstdFrames(t *testing.T) {
	skipped := append([]byte{0x5f, 0x2a, 0x4d, 0x18, 3, 0, 0, 0}, "abc"...)
	for _, size := range []int{4000, 1_500_000} {
		blob := text(size)
		half := size / 2
		withSize, err := zstd.NewWriter(nil)
		if err != nil {
			t.Fatal(err)
		}
		for what, data := range map[string][]byte{
			"two frames":      append(packZstd(t, blob[:half]), packZstd(t, blob[half:])...),
			"content size":    withSize.EncodeAll(blob, nil),
			"empty frames":    append(packZstd(t, nil, zstd.WithZeroFrames(true)), append(packZstd(t, blob), packZstd(t, nil, zstd.WithZeroFrames(true))...)...),
			"skipped":         append(bytes.Clone(skipped), append(packZstd(t, blob), skipped...)...),
			"large window":    packZstd(t, blob, zstd.WithWindowSize(32<<20)),
			"no checksum":     packZstd(t, blob, zstd.WithEncoderCRC(false)),
			"best":            packZstd(t, blob, zstd.WithEncoderLevel(zstd.SpeedBestCompression)),
			"frame by frames": manyFrames(t, blob, 10),
		} {
			f := newFixture(t)
			if _, err := f.write(inMessages(packedUpload("zstd", cas.SHA256.Sum(blob)), data, 300_000)...); err != nil {
				t.Errorf("%s, %d bytes: %v", what, size, err)
			}
		}
		if err := withSize.Close(); err != nil {
			t.Error(err)
		}
	}
}

func manyFrames(t *testing.T, data []byte, frames int) []byte {
	t.Helper()
	var all []byte
	for i := range frames {
		all = append(all, packZstd(t, data[len(data)*i/frames:len(data)*(i+1)/frames])...)
	}
	return all
}

// REAPI A17, C9, C11, C14, C18, B14.
func TestCompressedBatches(t *testing.T) {
	f := newFixture(t)
	client := repb.NewContentAddressableStorageClient(f.conn)
	blobs := map[string][]byte{"empty": {}, "tiny": []byte("x"), "small": text(1000), "larger": text(300_000)}
	var requests []*repb.BatchUpdateBlobsRequest_Request
	var digests []*repb.Digest
	for name, pack := range packers() {
		for _, blob := range blobs {
			blob = append(bytes.Clone(blob), name...)
			value := repb.Compressor_Value(repb.Compressor_Value_value[strings.ToUpper(name)])
			requests = append(requests, &repb.BatchUpdateBlobsRequest_Request{Digest: cas.SHA256.Sum(blob).Proto(), Data: pack(t, blob), Compressor: value})
			digests = append(digests, cas.SHA256.Sum(blob).Proto())
		}
		requests = append(requests, &repb.BatchUpdateBlobsRequest_Request{Digest: digest(""), Data: pack(t, nil), Compressor: repb.Compressor_Value(repb.Compressor_Value_value[strings.ToUpper(name)])})
	}
	resp, err := client.BatchUpdateBlobs(t.Context(), &repb.BatchUpdateBlobsRequest{Requests: requests})
	if err != nil {
		t.Fatal(err)
	}
	for i, r := range resp.GetResponses() {
		if r.GetStatus().GetCode() != 0 {
			t.Errorf("entry %d (%v): %v", i, requests[i].GetCompressor(), r.GetStatus())
		}
	}
	for _, acceptable := range []repb.Compressor_Value{repb.Compressor_IDENTITY, repb.Compressor_ZSTD, repb.Compressor_DEFLATE, repb.Compressor_BROTLI, 99} {
		read, err := client.BatchReadBlobs(t.Context(), &repb.BatchReadBlobsRequest{Digests: digests, AcceptableCompressors: []repb.Compressor_Value{99, acceptable}})
		if err != nil {
			t.Fatal(err)
		}
		for i, r := range read.GetResponses() {
			data := r.GetData()
			switch r.GetCompressor() {
			case repb.Compressor_IDENTITY:
				if digests[i].GetSizeBytes() >= 1000 && (acceptable == repb.Compressor_ZSTD || acceptable == repb.Compressor_DEFLATE) {
					t.Errorf("%v: %v was not compressed", acceptable, digests[i])
				}
			case acceptable:
				data = unpackers()[strings.ToLower(acceptable.String())](t, data)
			default:
				t.Errorf("compressor %v, only %v is acceptable", r.GetCompressor(), acceptable)
			}
			if cas.SHA256.Sum(data).Hash() != digests[i].GetHash() {
				t.Errorf("%v, entry %d: %d other bytes", acceptable, i, len(data))
			}
		}
	}
}

// REAPI C42, D16, D22: one blob from many clients at once, in every form.
func TestConcurrentUploadsOfOneBlob(t *testing.T) {
	f := newFixture(t)
	blob := text(3_000_000)
	d := cas.SHA256.Sum(blob)
	ways := map[string][]byte{upload(d): blob}
	for name, pack := range packers() {
		ways[packedUpload(name, d)] = pack(t, blob)
	}
	var group sync.WaitGroup
	for name, data := range ways {
		for range 4 {
			group.Go(func() {
				committed, err := f.write(inMessages(name, data, 64_000)...)
				if err != nil || committed != -1 && committed != int64(len(data)) {
					t.Errorf("%s: committed %d of %d, %v", name, committed, len(data), err)
				}
			})
		}
	}
	group.Wait()
	if got, err := f.read(&bytestream.ReadRequest{ResourceName: "blobs/" + d.Name()}); err != nil || !bytes.Equal(got, blob) {
		t.Errorf("read %d bytes, %v", len(got), err)
	}
}
