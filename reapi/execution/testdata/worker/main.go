// Command worker is a persistent worker, or a plain command, for tests. Its flag file
// has an operation on each line.
package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"slices"
	"strings"
	"syscall"
	"time"

	"google.golang.org/protobuf/encoding/protodelim"

	"github.com/hearth-build/hearth/reapi/execution/persistent/workerpb"
)

func main() {
	w := &worker{in: bufio.NewReader(os.Stdin), json: slices.Contains(os.Args, "--json")}
	if slices.Contains(os.Args, "--persistent_worker") {
		fmt.Fprintln(os.Stderr, "worker started")
		if err := w.serve(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	data, err := os.ReadFile(strings.TrimPrefix(os.Args[len(os.Args)-1], "@"))
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	w.plain = true
	output, code, _ := w.do(&request{Arguments: strings.Split(strings.TrimSpace(string(data)), "\n")})
	fmt.Fprint(os.Stderr, output)
	os.Exit(code)
}

// request and response are the messages as JSON has them.
type request struct {
	Arguments []string `json:"arguments"`
	Inputs    []struct {
		Path   string `json:"path"`
		Digest []byte `json:"digest"`
	} `json:"inputs"`
	Cancel bool `json:"cancel"`
}

type response struct {
	ExitCode     int    `json:"exitCode"`
	Output       string `json:"output"`
	WasCancelled bool   `json:"wasCancelled"`
}

type worker struct {
	in    *bufio.Reader
	json  bool
	plain bool
	count int
}

func (w *worker) serve() error {
	for {
		req, err := w.read()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		w.count++
		output, code, cancelled := w.do(req)
		if err := w.write(response{ExitCode: code, Output: output, WasCancelled: cancelled}); err != nil {
			return err
		}
	}
}

func (w *worker) read() (*request, error) {
	req := &request{}
	if w.json {
		line, err := w.in.ReadString('\n')
		if err != nil {
			return nil, err
		}
		return req, json.Unmarshal([]byte(line), req)
	}
	var m workerpb.WorkRequest
	if err := protodelim.UnmarshalFrom(w.in, &m); err != nil {
		return nil, err
	}
	for _, a := range m.Arguments {
		req.Arguments = append(req.Arguments, string(a))
	}
	for _, in := range m.Inputs {
		req.Inputs = append(req.Inputs, struct {
			Path   string `json:"path"`
			Digest []byte `json:"digest"`
		}{string(in.Path), in.Digest})
	}
	req.Cancel = m.Cancel
	return req, nil
}

func (w *worker) write(r response) error {
	if w.json {
		// Some workers print their objects over several lines.
		data, err := json.MarshalIndent(r, "", "  ")
		if err != nil {
			return err
		}
		_, err = fmt.Printf("%s\n", data)
		return err
	}
	_, err := protodelim.MarshalTo(os.Stdout, &workerpb.WorkResponse{
		ExitCode: int32(r.ExitCode), Output: []byte(r.Output), WasCancelled: r.WasCancelled,
	})
	return err
}

// do does what the lines say.
func (w *worker) do(req *request) (output string, code int, cancelled bool) {
	var out strings.Builder
	for _, line := range req.Arguments {
		name, rest, _ := strings.Cut(line, " ")
		switch name {
		case "exit":
			if _, err := fmt.Sscan(rest, &code); err != nil {
				return err.Error(), 1, false
			}
		case "cancelled":
			return "", 0, true
		case "await-cancel":
			next, err := w.read()
			if err != nil || !next.Cancel {
				return "this is no cancellation", 1, false
			}
			return out.String(), 0, true
		default:
			if err := w.step(&out, req, name, rest); err != nil {
				return out.String() + err.Error(), 1, false
			}
		}
	}
	return out.String(), code, false
}

func (w *worker) step(out io.Writer, req *request, name, rest string) error {
	switch name {
	case "read":
		data, err := os.ReadFile(rest)
		fmt.Fprintf(out, "%s\n", data)
		return err
	case "write":
		file, text, _ := strings.Cut(rest, " ")
		return os.WriteFile(file, []byte(text), 0o644)
	case "remove":
		return os.Remove(rest)
	case "count":
		fmt.Fprintf(out, "request %d\n", w.count)
	case "say":
		fmt.Fprintln(out, rest)
	case "log":
		fmt.Fprintln(os.Stderr, rest)
	case "list":
		entries, err := os.ReadDir(".")
		for _, e := range entries {
			fmt.Fprintln(out, e.Name())
		}
		return err
	case "inputs":
		for _, in := range req.Inputs {
			fmt.Fprintf(out, "%s %s\n", in.Path, in.Digest)
		}
	case "child":
		return exec.Command("/bin/sleep", "1000").Start()
	case "die":
		os.Exit(7)
	case "die-once": // in the file system, if not in this process
		if syscall.Mkdir(rest, 0o755) == nil {
			os.Exit(7)
		}
	case "die-as-worker":
		if !w.plain {
			os.Exit(7)
		}
	case "garbage":
		fmt.Println(rest)
	case "hang":
		for {
			time.Sleep(time.Hour)
		}
	default:
		return fmt.Errorf("no such operation: %q", name)
	}
	return nil
}
