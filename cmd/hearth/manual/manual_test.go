package manual_test

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/alecthomas/kong"

	"github.com/hearth-build/hearth/cmd/hearth/manual"
)

type program struct {
	Level string `help:"How much."`

	Serve struct {
		Slots int           `help:"How many | at most." default:"2" env:"PROG_SLOTS"`
		Delay time.Duration `help:".5 s or more."`
		Mode  string        `help:"Which." enum:"a,b" default:"a"`
		Open  bool          `help:"To all."`
		Inner string        `help:"Not for people." hidden:""`
	} `cmd:"" help:"Serve it."`
	Bench struct {
		Nop struct {
			What string `arg:"" help:"What to do."`
		} `cmd:"" help:"Nothing at all."`
	} `cmd:"" help:"Measure it."`
	Secret struct{} `cmd:"" hidden:"" help:"Not for people."`
}

func model(t *testing.T) *kong.Application {
	t.Helper()
	parser, err := kong.New(&program{}, kong.Name("prog"), kong.Description("Does it."))
	if err != nil {
		t.Fatal(err)
	}
	return parser.Model
}

func TestMarkdown(t *testing.T) {
	var b bytes.Buffer
	if err := manual.Markdown(&b, model(t)); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		"## Flags of all commands\n",
		"| `--level VALUE` | - | - | How much. |\n",
		"## `prog serve`\n\nServe it.\n",
		"| `--slots N` | `2` | `PROG_SLOTS` | How many \\| at most. |\n",
		"| `--mode a\\|b` | `a` | - | Which. |\n",
		"| `--open` | - | - | To all. |\n",
		"## `prog bench nop <what>`\n\nNothing at all.\n\n- `<what>`: What to do.\n",
	} {
		if !strings.Contains(b.String(), want) {
			t.Errorf("%q is missing", want)
		}
	}
	if strings.Contains(b.String(), "Not for people") {
		t.Error("something hidden is there")
	}
	if t.Failed() {
		t.Log(b.String())
	}
}

// What man makes of the pages, and that it finds nothing amiss in them.
func TestPages(t *testing.T) {
	dir := t.TempDir()
	shown := map[string]string{}
	for _, p := range manual.Pages(model(t), "1.2") {
		file := filepath.Join(dir, p.Name)
		if err := os.WriteFile(file, p.Text, 0o600); err != nil {
			t.Fatal(err)
		}
		var said bytes.Buffer
		cmd := exec.CommandContext(t.Context(), "groff", "-man", "-Tascii", "-P-cbou", "-ww", "-z", file)
		cmd.Stderr = &said
		if err := cmd.Run(); err != nil || said.Len() > 0 {
			t.Errorf("%s: %v %s", p.Name, err, &said)
		}
		out, err := exec.CommandContext(t.Context(), "groff", "-man", "-Tascii", "-P-cbou", file).Output()
		if err != nil {
			t.Fatal(err)
		}
		shown[p.Name] = strings.Join(strings.Fields(string(out)), " ")
	}
	if len(shown) != 3 {
		t.Errorf("%d pages", len(shown))
	}
	for name, wants := range map[string][]string{
		"prog.1":       {"prog - Does it", "prog-serve(1) Serve it.", "--level VALUE How much."},
		"prog-serve.1": {"prog-serve - Serve it", "--slots N How many | at most. Default: 2. [PROG_SLOTS]", "--delay DURATION .5 s or more.", "SEE ALSO"},
		"prog-bench.1": {"prog bench COMMAND", "prog bench nop <what> [FLAG ...]", "<what> What to do."},
	} {
		for _, want := range wants {
			if !strings.Contains(shown[name], want) {
				t.Errorf("%s: %q is missing in\n%s", name, want, shown[name])
			}
		}
	}
}
