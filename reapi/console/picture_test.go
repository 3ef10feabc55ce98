package console

import (
	"testing"
	"time"

	"github.com/hearth-build/hearth/reapi/execution"
)

// In a picture no bar covers another, each is where it belongs, and there are no more
// than can be seen.
func TestPicture(t *testing.T) {
	at := time.Date(2026, 11, 26, 12, 0, 0, 0, time.UTC)
	var runs []*execution.Finished
	of := &Invocation{}
	for i := range 2000 {
		begun := at.Add(time.Duration(i*7919%2000) * time.Second)
		f := &execution.Finished{Queued: begun, Ended: begun.Add(time.Duration(1+i%90) * time.Second), ExitCode: int32(i % 2)}
		f.Phases = []execution.Phase{{Name: "queued", Start: begun}, {Name: "execution", Start: begun.Add(time.Second / 2)}}
		runs = append(runs, f)
		of.add(f)
	}
	p := newPicture(of, runs, nil)
	if len(p.Bars) > maxBars || len(p.Bars)+p.Left != len(runs) || len(p.Bars) < maxBars/2 {
		t.Errorf("%d bars, %d left out", len(p.Bars), p.Left)
	}
	free := map[int]float64{}
	for _, b := range p.Bars {
		if b.Wait+0.1 < free[b.Y] { // rounded to tenths
			t.Fatalf("%+v begins before %v", b, free[b.Y])
		}
		if b.X < b.Wait || b.X+b.Width > pictureWidth+leastWidth || b.Y < axisHeight || b.Y+laneHeight > p.Height || b.Class != "failed" && b.Class != "warm" {
			t.Fatalf("%+v", b)
		}
		free[b.Y] = b.X + b.Width - leastWidth
	}
	if n := len(p.Ticks); n < 4 || n > 8 || p.Ticks[0].Text != "0" || p.Ticks[1].Text != "5 min" {
		t.Errorf("%+v", p.Ticks)
	}
	if p := newPicture(&Invocation{}, nil, nil); len(p.Bars) != 0 || len(p.Ticks) != 1 {
		t.Errorf("of nothing: %+v", p)
	}
}

func TestTook(t *testing.T) {
	for d, want := range map[time.Duration]string{
		-1: "0 s", 0: "0.00 ms", 1234 * time.Microsecond: "1.23 ms", 345600 * time.Microsecond: "346 ms", 1234 * time.Millisecond: "1.23 s",
		59 * time.Second: "59 s", 61 * time.Second: "1 min 01 s", time.Hour + 2*time.Minute: "1 h 02 min", 50 * time.Hour: "2 d 02 h",
	} {
		if got := took(d); got != want {
			t.Errorf("%v: %q, want %q", d, got, want)
		}
	}
}

func TestCountAndSize(t *testing.T) {
	if a, b, c := count(999), count(1234567), count(-1234); a != "999" || b != "1\u202f234\u202f567" || c != "-1\u202f234" {
		t.Errorf("%q %q %q", a, b, c)
	}
	if a, b := size(1023), size(3<<20+1<<19); a != "1.02e+03 B" && a != "1023 B" || b != "3.5 MiB" {
		t.Errorf("%q %q", a, b)
	}
}

func TestShellLine(t *testing.T) {
	if got := ShellLine([]string{"a-b/c.d", "", "it's", "$x y", "=a,b"}); got != `a-b/c.d '' 'it'\''s' '$x y' =a,b` {
		t.Error(got)
	}
}
