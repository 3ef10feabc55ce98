package execution

import (
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/hearth-build/hearth/runners"
)

// machine is Slots whose runs start and end as the test says.
type machine struct {
	*Slots
	t testing.TB
}

func newMachine(t testing.TB, total Resources) *machine {
	t.Helper()
	if total.Runners == 0 {
		total.Runners = 1000
	}
	s, err := NewSlots(SlotsOptions{Total: total, MaxQueued: 1000})
	if err != nil {
		t.Fatal(err)
	}
	return &machine{Slots: s, t: t}
}

// arrive makes a run wait, or run if there is room.
func (m *machine) arrive(need Resources, from string) *ticket {
	m.t.Helper()
	ticket := newTicket(&Task{}, func(Wait) {})
	need.Runners = 1
	ticket.needs = need
	m.join(ticket, placeOf(from))
	if _, err := m.enter(ticket); err != nil {
		m.t.Fatal(err)
	}
	return ticket
}

func (m *machine) want(what string, running ...*ticket) {
	m.t.Helper()
	for i, t := range running {
		if !t.settled {
			m.t.Errorf("%s: %d does not run", what, i)
		}
	}
	if got, _, _ := m.load(); got != len(running) {
		m.t.Errorf("%s: %d run, want %d", what, got, len(running))
	}
}

func needs(cpu float64, gib int64) Resources {
	return Resources{MilliCPU: int64(cpu * 1000), Memory: gib << 30}
}

// REAPI F41: each resource bounds what runs.
func TestSlotsAdmitWhatFits(t *testing.T) {
	gpu := needs(1, 1)
	gpu.Custom = map[string]int64{"gpu": 1000}
	for _, tc := range []struct {
		name  string
		total Resources
		each  Resources
		run   int
	}{
		{"CPU", needs(4, 100), needs(1, 1), 4},
		{"parts of CPUs", needs(4, 100), needs(0.5, 1), 8},
		{"more than one CPU", needs(4, 100), needs(3, 1), 1},
		{"memory", needs(100, 8), needs(1, 3), 2},
		{"custom resources", Resources{MilliCPU: 100_000, Memory: 100 << 30, Custom: map[string]int64{"gpu": 2000}}, gpu, 2},
		{"runners", Resources{MilliCPU: 100_000, Memory: 100 << 30, Runners: 5}, needs(1, 1), 5},
	} {
		t.Run(tc.name, func(t *testing.T) {
			m := newMachine(t, tc.total)
			var all []*ticket
			for range 10 {
				all = append(all, m.arrive(tc.each, "0/t/a"))
			}
			m.want("at first", all[:tc.run]...)
			for i := range 10 - tc.run {
				m.leave(all[i])
				m.want(fmt.Sprint(i+1, " ended"), all[i+1:i+1+tc.run]...)
			}
			for _, left := range all[10-tc.run:] {
				m.leave(left)
			}
			if free := m.free.minus(m.opts.Total); free.MilliCPU != 0 || free.Memory != 0 || free.Runners != 0 || free.Custom["gpu"] != 0 {
				t.Errorf("in the end %+v more is free than there is", free)
			}
		})
	}
}

// A big action waits for no small one that came after it; small ones may run
// beside it, before it.
func TestSlotsDoNotStarveTheBig(t *testing.T) {
	m := newMachine(t, needs(4, 100))
	var first []*ticket
	for range 4 {
		first = append(first, m.arrive(needs(1, 1), "0/t/small"))
	}
	big := m.arrive(needs(3, 1), "0/t/big")
	var later []*ticket
	for range 3 {
		later = append(later, m.arrive(needs(1, 1), "0/t/small"))
	}
	m.want("the machine is full", first...)
	m.leave(first[0])
	m.want("one may run beside the big one", first[1], first[2], first[3], later[0])
	m.leave(first[1])
	m.want("but no more: its CPUs are kept", first[2], first[3], later[0])
	m.leave(later[0])
	m.want("until there is room beside it again", first[2], first[3], later[1])
	m.leave(first[2])
	m.leave(first[3])
	m.want("then it runs", big, later[1])
	m.leave(later[1])
	m.want("and another beside it", big, later[2])
}

// REAPI F35: what is more urgent goes first, even when room is being made.
func TestSlotsLetTheUrgentPass(t *testing.T) {
	m := newMachine(t, needs(4, 100))
	small := m.arrive(needs(2, 1), "0/t/small")
	big := m.arrive(needs(4, 1), "0/t/big")
	urgent := m.arrive(needs(2, 1), "-1/t/urgent")
	m.want("the urgent one", small, urgent)
	bigAndUrgent := m.arrive(needs(3, 1), "-2/t/urgent")
	m.leave(small)
	m.want("a bigger and more urgent one waits", urgent)
	m.leave(urgent)
	m.want("and goes before the big one", bigAndUrgent)
	m.leave(bigAndUrgent)
	m.want("which is next", big)
}

// REAPI F26: a request that joins makes a waiting run more urgent; if it leaves,
// the run is as urgent as the others are.
func TestSlotsOfSharedRuns(t *testing.T) {
	m := newMachine(t, needs(1, 100))
	running := m.arrive(needs(1, 1), "0/t/a")
	normal, low := m.arrive(needs(1, 1), "0/t/a"), m.arrive(needs(1, 1), "5/t/b")
	urgent := placeOf("-5/t/c")
	m.join(low, urgent)
	if m.next != low {
		t.Error("the run is not next that an urgent request joined")
	}
	m.withdraw(low, urgent)
	another := m.arrive(needs(1, 1), "0/t/d")
	m.leave(running)
	m.leave(normal)
	m.want("the urgent request is gone", another)
	m.leave(another)
	m.want("and in the end", low)
}

// Thousands of requests of one invocation delay another's by their turn, and by
// the one whose turn had come.
func TestSlotsAreFair(t *testing.T) {
	m := newMachine(t, needs(2, 100))
	var flood []*ticket
	for range 900 {
		flood = append(flood, m.arrive(needs(1, 1), "0/t/flood"))
	}
	one, two := m.arrive(needs(1, 1), "0/t/mine"), m.arrive(needs(1, 1), "0/t/mine")
	for i := range 3 {
		m.leave(flood[i])
	}
	if !one.settled {
		t.Error("it is not the other invocation's turn")
	}
	if two.settled {
		t.Error("it is the other invocation's turn twice")
	}
}

func TestSlotsDrain(t *testing.T) {
	m := newMachine(t, needs(1, 1))
	running, waiting := m.arrive(needs(1, 1), "0/t/a"), m.arrive(needs(1, 1), "0/t/a")
	m.drain()
	late := m.arrive(needs(1, 1), "0/t/b")
	if waiting.settled || late.settled {
		t.Error("somebody is sent away while an action runs")
	}
	m.leave(running)
	if !waiting.settled || !errors.Is(waiting.err, ErrDraining) || !errors.Is(late.err, ErrDraining) {
		t.Errorf("those who waited were told %v and %v", waiting.err, late.err)
	}
	if _, err := m.enter(newTicket(nil, nil)); !errors.Is(err, ErrDraining) {
		t.Errorf("who comes later is told %v", err)
	}
}

func TestNewSlotsNamesWhatIsWrong(t *testing.T) {
	_, err := NewSlots(SlotsOptions{Total: Resources{MilliCPU: 0, Memory: -1, Custom: map[string]int64{"gpu": 0}}})
	for _, part := range []string{"CPU is 0", "memory is -1", "runners is 0", "resources:gpu is 0", "max-queued is 0"} {
		if err == nil || !strings.Contains(err.Error(), part) {
			t.Errorf("%v does not say %q", err, part)
		}
	}
}

// What an action needs that does not say all of it.
func TestNeeds(t *testing.T) {
	const gib = 1 << 30
	total := Resources{MilliCPU: 8000, Memory: 32 * gib, Runners: 20, Custom: map[string]int64{"gpu": 1000}}
	small := Resources{MilliCPU: 4000, Memory: 400 << 20, Runners: 2}
	for _, tc := range []struct {
		name  string
		total Resources
		says  runners.Estimates
		want  Resources
	}{
		{"nothing", total, runners.Estimates{}, Resources{MilliCPU: 1000, Memory: modestMemory}},
		{"nothing, on a small machine", small, runners.Estimates{}, Resources{MilliCPU: 1000, Memory: 200 << 20}},
		{"CPU", total, runners.Estimates{MilliCPU: 2500}, Resources{MilliCPU: 2500, Memory: modestMemory}},
		{"memory", total, runners.Estimates{Memory: gib}, Resources{MilliCPU: 1000, Memory: gib}},
		{"units", total, runners.Estimates{MilliUnits: 2000}, Resources{MilliCPU: 2000, Memory: 5e9}},
		{"units and CPU", total, runners.Estimates{MilliUnits: 2000, MilliCPU: 500}, Resources{MilliCPU: 500, Memory: 5e9}},
		{"custom", total, runners.Estimates{Custom: map[string]int64{"gpu": 500}}, Resources{MilliCPU: 1000, Memory: modestMemory, Custom: map[string]int64{"gpu": 500}}},
	} {
		got, err := newMachine(t, tc.total).Slots.needs(tc.says)
		tc.want.Runners = 1
		if err != nil || fmt.Sprint(got) != fmt.Sprint(tc.want) {
			t.Errorf("%s: %+v, %v, want %+v", tc.name, got, err, tc.want)
		}
	}
}

// REAPI F37, F49: what is beyond the machine is named, and what the machine has.
func TestNeedsBeyondTheMachine(t *testing.T) {
	m := newMachine(t, Resources{MilliCPU: 8000, Memory: 32 << 30, Custom: map[string]int64{"gpu": 1000}})
	for _, tc := range []struct {
		says runners.Estimates
		want []string
	}{
		{runners.Estimates{MilliCPU: 8500}, []string{"EstimatedCPU is 8.5, the nearest runner has 8 (--slots)"}},
		{runners.Estimates{Memory: 40 << 30}, []string{"EstimatedMemory is 40 GiB, the nearest runner has 32 GiB (--memory)"}},
		{runners.Estimates{MilliUnits: 100_000}, []string{"EstimatedComputeUnits is 100,", "EstimatedComputeUnits is 232.8 GiB,"}},
		{runners.Estimates{Custom: map[string]int64{"gpu": 2000, "licence": 1000}}, []string{"resources:gpu is 2, the nearest runner has 1 (--resource)", "resources:licence is 1, the nearest runner has 0"}},
		{runners.Estimates{MilliCPU: math.MaxInt32 * 1000, Memory: 1 << 62}, []string{"EstimatedCPU", "EstimatedMemory"}},
	} {
		_, err := m.Slots.needs(tc.says)
		if !errors.Is(err, runners.ErrPlatform) {
			t.Errorf("%+v: %v", tc.says, err)
			continue
		}
		for _, part := range tc.want {
			if !strings.Contains(err.Error(), part) {
				t.Errorf("%v does not say %q", err, part)
			}
		}
	}
}

func TestWaitInWords(t *testing.T) {
	for _, tc := range []struct {
		wait Wait
		want string
	}{
		{Wait{Position: 4, Invocations: 2, Shortage: Shortage{"CPU", 2, 0.5}}, "waits for 2 CPUs (0.5 free); 3 actions of 2 invocations are before it"},
		{Wait{Position: 2, Invocations: 1, Shortage: Shortage{"CPU", 1, 0}}, "waits for 1 CPU (0 free); 1 action of 1 invocation is before it"},
		{Wait{Position: 1, Shortage: Shortage{"memory", 12 << 30, 4 << 30}}, "waits for memory: 12 GiB asked, 4 GiB free"},
		{Wait{Position: 1, Shortage: Shortage{"runners", 1, 0}}, "waits for a runner: all are busy (--max-runners)"},
		{Wait{Position: 1, Shortage: Shortage{"resources:gpu", 2, 1}}, "waits for resources:gpu: 2 asked, 1 free"},
		{Wait{Position: 3, Invocations: 1}, "waits for its turn; 2 actions of 1 invocation are before it"},
	} {
		if got := tc.wait.String(); got != tc.want {
			t.Errorf("%q, want %q", got, tc.want)
		}
	}
}

// modelMachine runs random actions and checks what must always hold.
type modelMachine struct {
	*machine
	r       *rand.Rand
	running []*ticket
	waiting []*ticket
	// next and before are the run whose turn it is and those that ran when it
	// became that; it waits for none but those.
	next   *ticket
	turn   uint64
	before []*ticket
}

func (m *modelMachine) randomNeeds() Resources {
	n := Resources{MilliCPU: int64(1 + m.r.IntN(4)*1000), Memory: int64(1+m.r.IntN(8)) << 30}
	if m.r.IntN(4) == 0 {
		n.Custom = map[string]int64{"gpu": int64(1 + m.r.IntN(2000))}
	}
	return n
}

func (m *modelMachine) step() {
	switch what := m.r.IntN(10); {
	case what < 4:
		from := fmt.Sprintf("%d t%d i%d", m.r.IntN(2), m.r.IntN(2), m.r.IntN(3))
		m.waiting = append(m.waiting, m.arrive(m.randomNeeds(), strings.ReplaceAll(from, " ", "/")))
	case what < 5 && len(m.waiting) > 0:
		m.join(m.waiting[m.r.IntN(len(m.waiting))], placeOf(fmt.Sprintf("%d/t0/i%d", m.r.IntN(3)-1, m.r.IntN(3))))
	case what < 6 && len(m.waiting) > 0: // its client gives up
		i := m.r.IntN(len(m.waiting))
		m.giveUp(m.waiting[i])
		m.waiting = slices.Delete(m.waiting, i, i+1)
	case len(m.running) > 0:
		i := m.r.IntN(len(m.running))
		m.leave(m.running[i])
		m.running = slices.Delete(m.running, i, i+1)
	}
	m.sort()
	m.check()
}

// giveUp is what wait does when its context has ended.
func (m *modelMachine) giveUp(t *ticket) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.abandon(t)
}

// sort finds out who runs by now.
func (m *modelMachine) sort() {
	m.waiting = slices.DeleteFunc(m.waiting, func(t *ticket) bool {
		if t.settled {
			m.running = append(m.running, t)
		}
		return t.settled
	})
	if m.turns != m.turn {
		m.turn, m.next, m.before = m.turns, m.Slots.next, slices.Clone(m.running)
	}
	m.before = slices.DeleteFunc(m.before, func(t *ticket) bool { return !slices.Contains(m.running, t) })
}

func (m *modelMachine) check() {
	used := Resources{}
	for _, t := range m.running {
		used = used.plus(t.needs)
	}
	rest := m.opts.Total.minus(used)
	if rest.MilliCPU < 0 || rest.Memory < 0 || rest.Runners < 0 || rest.Custom["gpu"] < 0 {
		m.t.Fatalf("more is used than there is: %+v", used)
	}
	if rest.MilliCPU != m.free.MilliCPU || rest.Memory != m.free.Memory || rest.Custom["gpu"] != m.free.Custom["gpu"] {
		m.t.Fatalf("%+v is free, not %+v", rest, m.free)
	}
	if len(m.waiting) != m.Slots.waiting() || len(m.running) != m.Slots.running {
		m.t.Fatalf("%d wait and %d run, not %d and %d", len(m.waiting), len(m.running), m.Slots.waiting(), m.Slots.running)
	}
	if len(m.waiting) == 0 {
		return
	}
	now := m.Slots.next
	if now == nil || m.free.holds(now.needs) {
		m.t.Fatalf("%d wait, and it is nobody's turn though there is room", len(m.waiting))
	}
	if now == m.next && len(m.before) == 0 {
		m.t.Fatalf("the next one waits though all have ended that ran before it")
	}
	for _, t := range m.waiting {
		if t.urgency() < now.urgency() {
			m.t.Fatalf("the next one has priority %d, another one %d", now.urgency(), t.urgency())
		}
	}
}

// Random arrivals, ends and cancellations: no resource is given out twice, the
// next one starts when there is room, and it waits for none but those that ran
// before its turn. In the end all have run.
func TestSlotsModel(t *testing.T) {
	for seed := range uint64(100) {
		m := &modelMachine{
			machine: newMachine(t, Resources{MilliCPU: 8000, Memory: 16 << 30, Runners: 6, Custom: map[string]int64{"gpu": 2000}}),
			r:       rand.New(rand.NewPCG(seed, 2)),
		}
		for range 300 {
			m.step()
		}
		for len(m.running) > 0 {
			m.leave(m.running[0])
			m.running = m.running[1:]
			m.sort()
			m.check()
		}
		if len(m.waiting) > 0 {
			t.Fatalf("seed %d: %d never ran", seed, len(m.waiting))
		}
	}
}
