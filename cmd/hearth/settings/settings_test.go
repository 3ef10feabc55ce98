package settings_test

import (
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/alecthomas/kong"

	"github.com/hearth-build/hearth/cmd/hearth/settings"
)

// program is a command line with what real ones have.
type program struct {
	Config   string     `placeholder:"FILE"`
	LogLevel slog.Level `default:"info"`

	Serve struct {
		Slots    int               `default:"2"`
		Pause    string            `enum:"adaptive,never" default:"adaptive"`
		Delay    time.Duration     `default:"5s"`
		Console  string            `default:"here"`
		Names    []string          ``
		Property map[string]string ``
		Resource map[string]float64
		Other    *string
		Password string `secret:""`
	} `cmd:""`
	List struct {
		Console string `default:"there"`
		Limit   int    `default:"50"`
	} `cmd:""`
}

// rig is a parsed command line.
type rig struct {
	cli  program
	from *settings.Settings
	ctx  *kong.Context
}

// parse parses a command line, with variables NAME=VALUE in the environment.
func parse(t *testing.T, env []string, args ...string) (*rig, error) {
	t.Helper()
	for _, pair := range env {
		name, value, _ := strings.Cut(pair, "=")
		t.Setenv(name, value)
	}
	r := &rig{from: settings.New("PROG", env)}
	parser, err := kong.New(&r.cli, r.from.Options()...)
	if err != nil {
		t.Fatal(err)
	}
	r.ctx, err = parser.Parse(args)
	return r, err
}

func write(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "config.yaml")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// set is what List says of a flag.
func (r *rig) set(t *testing.T, name string) (value, source string) {
	t.Helper()
	list := r.from.List(r.ctx)
	i := slices.IndexFunc(list, func(s settings.Setting) bool { return s.Name == name })
	if i < 0 {
		t.Fatalf("%s is not in %v", name, list)
	}
	return list[i].Value, list[i].Source
}

func TestPlacesCountInTheirOrder(t *testing.T) {
	path := write(t, `
log-level: debug
console: everywhere
password: from the file
serve:
  slots: 4
  delay: 1m
  console: in serve
  names: [a, "b,c"]
  property: {recycle: true, "registry-password": hush}
  resource: {gpu: 1.5}
`)
	r, err := parse(t, []string{"PROG_SLOTS=5", "PROG_DELAY=2m", "PROG_CONFIG=" + path}, "serve", "--delay=3m")
	if err != nil {
		t.Fatal(err)
	}
	if s := r.cli.Serve; s.Slots != 5 || s.Delay != 3*time.Minute || s.Console != "in serve" || !slices.Equal(s.Names, []string{"a", "b,c"}) ||
		s.Property["recycle"] != "true" || s.Resource["gpu"] != 1.5 || s.Other != nil || r.cli.LogLevel != slog.LevelDebug {
		t.Errorf("%+v", r.cli)
	}
	for name, want := range map[string][2]string{
		"slots":     {"5", "environment PROG_SLOTS"},
		"delay":     {"3m0s", "flag"},
		"console":   {"in serve", path + ":8"},
		"pause":     {"adaptive", "default"},
		"log-level": {"DEBUG", path + ":2"},
		"names":     {"a,b,c", path + ":9"},
		"property":  {"recycle=true;registry-password=(set, not shown)", path + ":10"},
		"resource":  {"gpu=1.5", path + ":11"},
		"password":  {"(set, not shown)", path + ":4"},
		"other":     {"", "default"},
	} {
		if value, source := r.set(t, name); value != want[0] || source != want[1] {
			t.Errorf("%s is %q from %q, want %q", name, value, source, want)
		}
	}
	// What stands at the top is for all commands that have it.
	if r, err = parse(t, nil, "list", "--config="+path); err != nil || r.cli.List.Console != "everywhere" {
		t.Errorf("%v, console %q", err, r.cli.List.Console)
	}
}

func TestOneErrorNamesAllThatIsWrong(t *testing.T) {
	path := write(t, `
log-levle: info
config: other.yaml
serve:
  slots: many
  slots: 3
  pause: sometimes
  names: {a: b}
  delay:
  consol: x
list:
  limit: few
server: {}
`)
	_, err := parse(t, []string{"PROG_SLOTTS=1", "PROG_DELAY=long", "PROG_PORT_80_TCP=tcp://10.0.0.1:80", "PROG_SERVICE_HOST=10.0.0.1", "PROGRAM=1"}, "serve", "--config="+path)
	var bad *settings.Error
	if !errors.As(err, &bad) {
		t.Fatalf("%v is not about settings", err)
	}
	lines := strings.Split(bad.Error(), "\n")
	for _, want := range []string{
		"environment variable PROG_SLOTTS belongs to no flag: did you mean PROG_SLOTS?",
		"environment variable PROG_DELAY: --delay: ",
		path + ":2: log-levle is no flag: did you mean log-level?",
		path + ":3: a file cannot name another one by config",
		path + ":5: --slots: ",
		path + ":6: slots is there twice",
		path + `:7: --pause: must be one of ["adaptive" "never"], not "sometimes"`,
		path + ":8: ",
		path + ":9: --delay has no value",
		path + ":10: consol is no flag of hearth serve: did you mean console?",
		path + ":12: --limit: ",
		path + ":13: server is no flag: did you mean serve?",
	} {
		if !slices.ContainsFunc(lines, func(l string) bool { return strings.HasPrefix(l, want) }) {
			t.Errorf("nothing says %q", want)
		}
	}
	if len(lines) != 12 || t.Failed() {
		t.Errorf("%d lines:\n%v", len(lines), bad)
	}
}

func TestUnusableFiles(t *testing.T) {
	for text, want := range map[string]string{"- a\n": "NAME: VALUE", "a: [": "yaml", "serve: 3\n": "below the command serve"} {
		if _, err := parse(t, nil, "serve", "--config="+write(t, text)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v", text, err)
		}
	}
	if _, err := parse(t, nil, "serve", "--config="+filepath.Join(t.TempDir(), "none")); err == nil || !strings.Contains(err.Error(), "--config") {
		t.Errorf("%v", err)
	}
	if _, err := parse(t, nil, "serve", "--config="+write(t, "# nothing yet\n")); err != nil {
		t.Errorf("an empty file: %v", err)
	}
}

func TestReload(t *testing.T) {
	path := write(t, "log-level: warn\nserve: {slots: 3, pause: never}\n")
	r, err := parse(t, nil, "serve", "--config="+path, "--slots=7")
	if err != nil {
		t.Fatal(err)
	}
	reload := func(text string) ([]settings.Change, error) {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return r.from.Reload(r.ctx)
	}
	if changes, err := r.from.Reload(r.ctx); err != nil || len(changes) > 0 {
		t.Errorf("nothing has changed, but %v, %v", changes, err)
	}
	// The command line goes on to count more.
	changes, err := reload("log-level: debug\nserve: {slots: 4, pause: never}\n")
	if want := []settings.Change{{Name: "log-level", Value: "debug"}}; err != nil || !slices.Equal(changes, want) {
		t.Errorf("%v, %v, want %v", changes, err, want)
	}
	var bad *settings.Error
	if changes, err = reload("log-level: debug\nserve: {paws: never}\n"); !errors.As(err, &bad) || len(changes) > 0 {
		t.Errorf("%v, %v", changes, err)
	}
	changes, err = reload("")
	if want := []settings.Change{{Name: "log-level", Value: "info"}, {Name: "pause", Value: "adaptive"}}; err != nil || !slices.Equal(changes, want) {
		t.Errorf("%v, %v, want %v", changes, err, want)
	}
	// Without a file there is nothing to read.
	if r, err = parse(t, nil, "serve"); err != nil {
		t.Fatal(err)
	}
	if changes, err := r.from.Reload(r.ctx); err != nil || len(changes) > 0 {
		t.Errorf("%v, %v", changes, err)
	}
}
