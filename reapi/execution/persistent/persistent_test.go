package persistent_test

import (
	"bytes"
	"errors"
	"io"
	"slices"
	"strings"
	"testing"

	"google.golang.org/protobuf/encoding/protodelim"

	"github.com/hearth-build/hearth/reapi/execution/persistent"
	"github.com/hearth-build/hearth/reapi/execution/persistent/workerpb"
)

func TestSplit(t *testing.T) {
	for _, tc := range []struct{ args, start, flags string }{
		{"java -jar x.jar @p", "java -jar x.jar --persistent_worker", "@p"},
		{"java @a --flagfile=b -flagfile=c -x @@d", "java -x --persistent_worker", "@a --flagfile=b -flagfile=c @@d"},
		{"java @ --flagfile= x@y", "java @ --flagfile= x@y --persistent_worker", ""},
		{"@java", "@java --persistent_worker", ""},
	} {
		start, flags, ok := persistent.Split(strings.Fields(tc.args))
		if strings.Join(start, " ") != tc.start || strings.Join(flags, " ") != tc.flags || ok != (tc.flags != "") {
			t.Errorf("%s: %q, %q, %v", tc.args, start, flags, ok)
		}
	}
}

func TestArguments(t *testing.T) {
	files := map[string]string{
		"a": "-d\r\nout dir\n\n@b\n@@literal\n@repo//:target\n-x", "b": "from b\n", "": "never", "loop": "@loop\n", "large": strings.Repeat("x", 40<<20),
	}
	missing := errors.New("missing")
	read := func(name string) ([]byte, error) {
		data, ok := files[name]
		if !ok {
			return nil, missing
		}
		return []byte(data), nil
	}
	got, err := persistent.Arguments([]string{"@a", "--flagfile=a", "@b"}, read)
	want := []string{"-d", "out dir", "", "from b", "@@literal", "@repo//:target", "-x", "--flagfile=a", "from b"}
	if err != nil || !slices.Equal(got, want) {
		t.Errorf("got %q, %v", got, err)
	}
	for args, want := range map[string]error{"@loop": persistent.ErrFlagFiles, "@large @large": persistent.ErrFlagFiles, "@nowhere": missing} {
		if _, err := persistent.Arguments(strings.Fields(args), read); !errors.Is(err, want) {
			t.Errorf("%s: %v", args, err)
		}
	}
}

// said is a worker that has said all that it will.
type said struct {
	io.Reader
	bytes.Buffer
}

func (s *said) Read(p []byte) (int, error) { return s.Reader.Read(p) }

// The bytes that go over the wire are those that workers know.
func TestRequests(t *testing.T) {
	req := &persistent.Request{
		Arguments: []string{"<a>", "\xff"},
		Inputs:    []persistent.Input{{Path: "x/y", Digest: "00ff"}},
	}
	worker := &said{Reader: bytes.NewReader([]byte{0})}
	if answer, err := persistent.Ask(t.Context(), persistent.Delimited{}, worker, req, false); err != nil || answer.ExitCode != 0 {
		t.Errorf("%+v, %v", answer, err)
	}
	if got, want := worker.String(), "\x15\x0a\x03<a>\x0a\x01\xff\x12\x0b\x0a\x03x/y\x12\x0400ff"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	req.Arguments = []string{"<a>"}
	worker = &said{Reader: strings.NewReader("\n {\"exitCode\": 3,\n\"output\": \"} \\\" {\", \"more\": [{}]}\r\n")}
	answer, err := persistent.Ask(t.Context(), persistent.Lines{}, worker, req, false)
	if err != nil || answer.ExitCode != 3 || string(answer.Output) != `} " {` {
		t.Errorf("%+v, %v", answer, err)
	}
	if got, want := worker.String(), `{"arguments":["<a>"],"inputs":[{"path":"x/y","digest":"MDBmZg=="}]}`+"\n"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

// FuzzAnswers: whatever a worker writes is an answer or an error.
func FuzzAnswers(f *testing.F) {
	var whole bytes.Buffer
	if _, err := protodelim.MarshalTo(&whole, &workerpb.WorkResponse{ExitCode: 1, Output: []byte("x"), WasCancelled: true}); err != nil {
		f.Fatal(err)
	}
	for _, seed := range []string{"", "\x00", whole.String(), whole.String() + "x", "\xff\xff\xff\xff\x7f", "\x02\x18\x07", "Hello", `{}`, `{"exitCode":1}`, `{"a":"}`, `[`, `{"requestId":7}`} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		for _, p := range []persistent.Protocol{persistent.Delimited{}, persistent.Lines{}} {
			answer, err := persistent.Ask(t.Context(), p, &said{Reader: strings.NewReader(text)}, &persistent.Request{}, false)
			if err != nil && (answer.ExitCode != 0 || answer.Output != nil || answer.Cancelled) {
				t.Errorf("an answer with an error: %+v, %v", answer, err)
			}
			if err == nil && text == "" {
				t.Error("nothing was taken for an answer")
			}
			if err != nil && !errors.Is(err, persistent.ErrAnswer) && !errors.Is(err, io.ErrUnexpectedEOF) {
				t.Errorf("%q: %v", text, err)
			}
		}
	})
}
