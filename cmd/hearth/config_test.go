package main

import (
	"bytes"
	"encoding/json"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/hearth-build/hearth/cmd/hearth/settings"
)

// self is this program with arguments, ready to be run.
func self(t *testing.T, args ...string) *exec.Cmd {
	t.Helper()
	program, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), program, args...)
	cmd.Env = os.Environ()
	return cmd
}

// hearth runs this program with arguments, and variables for its environment.
func hearth(t *testing.T, env []string, args ...string) (out string, err error) {
	t.Helper()
	var stdout, stderr bytes.Buffer
	cmd := self(t, args...)
	cmd.Env, cmd.Stdout, cmd.Stderr = append(cmd.Env, env...), &stdout, &stderr
	if err = cmd.Run(); err != nil {
		return stdout.String() + stderr.String(), err
	}
	return stdout.String(), nil
}

func TestConfigPrint(t *testing.T) {
	file := filepath.Join(t.TempDir(), "hearth.yaml")
	if err := os.WriteFile(file, []byte("serve:\n  pause: never\n  default-property: {container-registry-password: hush}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	out, err := hearth(t, []string{"HEARTH_MEMORY=3GiB"}, "config", "print", "--json", "--config="+file, "serve", "--slots=3", "--execserver=/bin/true")
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	var list []settings.Setting
	if err := json.Unmarshal([]byte(out), &list); err != nil {
		t.Fatal(err)
	}
	for _, want := range []settings.Setting{
		{Name: "slots", Value: "3", Source: "flag"},
		{Name: "config", Value: file, Source: "flag"},
		{Name: "memory", Value: "3GiB", Source: "environment HEARTH_MEMORY"},
		{Name: "pause", Value: "never", Source: file + ":2"},
		{Name: "default-property", Value: "container-registry-password=(set, not shown)", Source: file + ":3"},
		{Name: "max-runners", Value: "10", Source: "default"}, // which follows from the slots
		{Name: "log-level", Value: "INFO", Source: "default"},
		{Name: "image-min-free", Value: "5GiB", Source: "default"},
	} {
		if !slices.Contains(list, want) {
			t.Errorf("%+v is not in %+v", want, list)
		}
	}
	// What is wrong is told as well, and another command has other flags.
	out, err = hearth(t, nil, "config", "print", "--slots=0", "--execserver=/bin/true")
	if err == nil || !strings.Contains(out, "--slots is 0") {
		t.Errorf("%v: %s", err, out)
	}
	out, err = hearth(t, []string{"HEARTH_REGISTRY_PASSWORD=hush"}, "config", "print", "doctor")
	if err != nil || !strings.Contains(out, "environment HEARTH_REGISTRY_PASSWORD") || strings.Contains(out, "hush") {
		t.Errorf("%v: %s", err, out)
	}
}

func TestUnknownSettingsAreRefused(t *testing.T) {
	out, err := hearth(t, []string{"HEARTH_SLOTTS=3"}, "version")
	if err == nil || !strings.Contains(out, "HEARTH_SLOTTS belongs to no flag: did you mean HEARTH_SLOTS?") || strings.Contains(out, "Usage:") {
		t.Errorf("%v: %s", err, out)
	}
}

// A server applies the log level of its file, and says what it cannot apply.
func TestReloadOfTheLogLevel(t *testing.T) {
	file := filepath.Join(t.TempDir(), "hearth.yaml")
	write := func(text string) {
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("log-level: warn\n")
	var c cli
	parser, from, err := newParser(&c)
	if err != nil {
		t.Fatal(err)
	}
	command, err := parser.Parse([]string{"serve", "--config=" + file})
	if err != nil {
		t.Fatal(err)
	}
	var log bytes.Buffer
	level := &slog.LevelVar{}
	level.Set(c.LogLevel)
	logger := newLogger(&log, "json", level)
	r := &reloading{from: from, command: command, level: level}
	logger.Info("quiet")
	write("log-level: debug\nserve: {slots: 4}\n")
	if err := r.reload(logger); err != nil || level.Level() != slog.LevelDebug {
		t.Errorf("%v, level %v", err, level.Level())
	}
	logger.Debug("loud")
	write("log-level: error\nserve: {slot: 4}\n")
	if err := r.reload(logger); err == nil || level.Level() != slog.LevelDebug {
		t.Errorf("%v, level %v", err, level.Level())
	}
	text := log.String()
	if strings.Contains(text, "quiet") || !strings.Contains(text, `"msg":"loud"`) || !strings.Contains(text, `"flag":"slots"`) {
		t.Error(text)
	}
}

// The same of a real server, which a person asks for more.
func TestServerFollowsItsFile(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "hearth.yaml")
	if err := os.WriteFile(file, []byte("log-level: error\nserve:\n  listen: 127.0.0.1:0\n  console: 127.0.0.1:0\n  execserver: /bin/true\n  data-dir: "+filepath.Join(dir, "data")+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	var log logged
	cmd := exec.Command(self, "serve")
	cmd.Env, cmd.Stderr = append(os.Environ(), "HEARTH_CONFIG="+file), &log
	announced, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := cmd.Process.Signal(os.Interrupt); err != nil {
			t.Error(err)
		}
		if err := cmd.Wait(); err != nil {
			t.Errorf("%v: %s", err, log.String())
		}
	})
	if _, err := announced.Read(make([]byte, 1)); err != nil {
		t.Fatalf("it did not start: %v: %s", err, log.String())
	}
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, bytes.Replace(text, []byte("error"), []byte("info"), 1), 0o600); err != nil {
		t.Fatal(err)
	}
	log.await(t, "the log level has changed")
}

// await waits until the log has a text.
func (l *logged) await(t *testing.T, text string) {
	t.Helper()
	ticker := time.NewTicker(50 * time.Millisecond)
	defer ticker.Stop()
	for end := time.Now().Add(time.Minute); !strings.Contains(l.String(), text); <-ticker.C {
		if time.Now().After(end) {
			t.Fatalf("%q is not in the log:\n%s", text, l.String())
		}
	}
}
