package runnertest

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/hearth-build/hearth/runners"
)

// testWorker: a worker goes on from one action to the next, also in a runner that was
// frozen meanwhile, until a command runs in its place or it ends.
func testWorker(b *bench) {
	r := b.start()
	lender, ok := r.Instance.(runners.Lends)
	if !ok {
		return // a backend need not have workers
	}
	cmd := runners.WorkerCommand{Command: shell(`n=0; while read -r line; do n=$((n+1)); [ "$line" != die ] || exit 3; echo "$n $line"; done`)}
	ask := func(line string) (answer string, err error) {
		_, err = lender.Work(b.ctx(), cmd, io.Discard, func(w runners.Worker) error {
			if _, err := fmt.Fprintln(w, line); err != nil {
				return err
			}
			answer, err = bufio.NewReader(w).ReadString('\n')
			return err
		})
		return strings.TrimSpace(answer), err
	}
	want := func(line, want string) {
		b.Helper()
		if got, err := ask(line); got != want || err != nil {
			b.Fatalf("asked %q, it answers %q, %v; want %q", line, got, err, want)
		}
	}
	want("a", "1 a")
	if err := errors.Join(r.Freeze(b.ctx()), r.Thaw(b.ctx())); err != nil {
		b.Fatal(err)
	}
	want("b", "2 b")
	if res, _ := r.run(shell("exit 4")); res.ExitCode != 4 {
		b.Errorf("a command in its place: %+v", res)
	}
	want("c", "1 c")
	var ended *runners.WorkerError
	if _, err := ask("die"); !errors.As(err, &ended) || ended.Ended == nil || ended.Ended.ExitCode != 3 {
		b.Errorf("it ended: %v", err)
	}
	want("d", "1 d")
	// And the runner is removed while it has one.
}
