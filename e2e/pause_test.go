package e2e_test

import (
	"io"
	"net/http"
	"os/exec"
	"regexp"
	"testing"
)

// metric reads one line of /metrics.
func (h *hearth) metric(t *testing.T, name string) string {
	t.Helper()
	resp, err := http.Get(h.console + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	line := regexp.MustCompile(`(?m)^` + regexp.QuoteMeta(name) + ` (.*)$`).FindStringSubmatch(string(body))
	if line == nil {
		t.Fatalf("no %s in\n%s", name, body)
	}
	return line[1]
}

// TestPause: of two idle runners the one that burns CPU is paused after the delay, and
// the quiet one is not. What burns is of a person who looked into the container: an
// action leaves nothing that runs.
func TestPause(t *testing.T) {
	h := startHearthWith(t, "/", recycling, "--pause-delay=2s")
	c := newCaller(t, h)
	root, asRoot := c.tree(nil), []string{"dockerRunAsRoot"}
	c.run(root, nil, "while :; do :; done & true")
	quiet := h.runner(t)
	c.run(root, asRoot, "true")
	burning := container{}
	for _, r := range h.runners(t) {
		if r.ID != quiet.ID {
			burning = r
		}
	}
	if out, err := exec.Command("podman", "exec", "--detach", burning.ID, "/bin/sh", "-c", "while :; do :; done").CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	state := func(id string) string {
		for _, r := range h.runners(t) {
			if r.ID == id {
				return r.State
			}
		}
		return "gone"
	}
	waitFor(t, "the runner that burns CPU is paused", func() bool { return state(burning.ID) == "paused" })
	if got := state(quiet.ID); got != "idle" {
		t.Errorf("the quiet runner is %s", got)
	}
	for name, want := range map[string]string{`hearth_runners{state="paused"}`: "1", `hearth_runners{state="idle"}`: "1", "hearth_runners_paused_total": "1"} {
		if got := h.metric(t, name); got != want {
			t.Errorf("%s is %s, want %s", name, got, want)
		}
	}
	// The next action wakes it, and when it is idle again it burns on.
	c.run(root, asRoot, "true")
	waitFor(t, "the runner is paused again", func() bool { return h.metric(t, "hearth_runners_paused_total") == "2" })
	if got, other := state(burning.ID), state(quiet.ID); got != "paused" || other != "idle" {
		t.Errorf("the runner that burns is %s, the quiet one %s", got, other)
	}
}
