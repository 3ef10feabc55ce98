package execution

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"

	"github.com/docker/go-units"

	"github.com/hearth-build/hearth/runners"
)

// Resources is an amount of everything that actions share.
type Resources struct {
	// MilliCPU is thousandths of a CPU.
	MilliCPU int64
	// Memory is bytes.
	Memory int64
	// Runners is containers in use.
	Runners int64
	// Custom is thousandths of what the server's operator declared, by names in
	// lower case.
	Custom map[string]int64
}

// Validate says which amounts nothing could be run with.
func (r Resources) Validate() error {
	var errs []error
	for _, amount := range []struct {
		name string
		is   int64
	}{{"CPU", r.MilliCPU}, {"memory", r.Memory}, {"runners", r.Runners}} {
		if amount.is < 1 {
			errs = append(errs, fmt.Errorf("%s is %d: it must be more than 0", amount.name, amount.is))
		}
	}
	for name, amount := range r.Custom {
		if amount < 1 {
			errs = append(errs, fmt.Errorf("%s%s is %d: it must be more than 0", runners.ResourcePrefix, name, amount))
		}
	}
	return errors.Join(errs...)
}

func (r Resources) plus(o Resources) Resources  { return r.add(o, 1) }
func (r Resources) minus(o Resources) Resources { return r.add(o, -1) }

// add makes a new amount.
func (r Resources) add(o Resources, times int64) Resources {
	r.MilliCPU += times * o.MilliCPU
	r.Memory += times * o.Memory
	r.Runners += times * o.Runners
	if len(o.Custom) == 0 {
		return r
	}
	custom := make(map[string]int64, len(r.Custom)+len(o.Custom))
	maps.Copy(custom, r.Custom)
	for name, amount := range o.Custom {
		custom[name] += times * amount
	}
	r.Custom = custom
	return r
}

// holds reports whether r is enough for need.
func (r Resources) holds(need Resources) bool {
	if need.MilliCPU > r.MilliCPU || need.Memory > r.Memory || need.Runners > r.Runners {
		return false
	}
	for name, amount := range need.Custom {
		if amount > r.Custom[name] {
			return false
		}
	}
	return true
}

// exhausted reports whether r is not enough for anything: each action needs
// something of these.
func (r Resources) exhausted() bool { return r.MilliCPU < 1 || r.Memory < 1 || r.Runners < 1 }

// used is the share of the total that is gone of the resource of which most is.
func (r Resources) used(total Resources) float64 {
	most := 0.0
	share := func(free, total int64) {
		if total > 0 { // of nothing, nothing is used
			most = max(most, 1-float64(free)/float64(total))
		}
	}
	share(r.MilliCPU, total.MilliCPU)
	share(r.Memory, total.Memory)
	share(r.Runners, total.Runners)
	for name, amount := range total.Custom {
		share(r.Custom[name], amount)
	}
	return most
}

// Shortage is too little of a resource. The zero Shortage is none.
type Shortage struct {
	// Resource is "CPU", "memory", "runners", or a property's name.
	Resource string
	// Asked and Free are in CPUs, bytes, runners or units.
	Asked, Free float64
}

// The names of the resources that every action needs.
const (
	resourceCPU     = "CPU"
	resourceMemory  = "memory"
	resourceRunners = "runners"
)

// shortage is the first thing of which r is not enough for need.
func (r Resources) shortage(need Resources) Shortage {
	switch {
	case need.MilliCPU > r.MilliCPU:
		return Shortage{resourceCPU, milli(need.MilliCPU), milli(r.MilliCPU)}
	case need.Memory > r.Memory:
		return Shortage{resourceMemory, float64(need.Memory), float64(r.Memory)}
	case need.Runners > r.Runners:
		return Shortage{resourceRunners, float64(need.Runners), float64(r.Runners)}
	}
	for _, name := range slices.Sorted(maps.Keys(need.Custom)) {
		if need.Custom[name] > r.Custom[name] {
			return Shortage{runners.ResourcePrefix + name, milli(need.Custom[name]), milli(r.Custom[name])}
		}
	}
	return Shortage{}
}

// String says what is waited for.
func (s Shortage) String() string {
	switch s.Resource {
	case resourceCPU:
		return fmt.Sprintf("%s (%s free)", count(s.Asked, "CPU"), number(s.Free))
	case resourceMemory:
		return fmt.Sprintf("memory: %s asked, %s free", size(s.Asked), size(s.Free))
	case resourceRunners:
		return "a runner: all are busy (--max-runners)"
	default:
		return fmt.Sprintf("%s: %s asked, %s free", s.Resource, number(s.Asked), number(s.Free))
	}
}

// estimated is what admission counts for an action: what it says, or common.
func estimated(e runners.Estimates, common Resources) Resources {
	const unitMemory = 2.5e9 // bytes that come with a compute unit's CPU
	return Resources{
		MilliCPU: cmp.Or(e.MilliCPU, e.MilliUnits, common.MilliCPU),
		Memory:   cmp.Or(e.Memory, int64(milli(e.MilliUnits)*unitMemory), common.Memory),
		Runners:  common.Runners,
		Custom:   e.Custom,
	}
}

// beyond lists what an action asks for beyond all that there is. It needs need,
// which follows from the estimates e.
func (r Resources) beyond(need Resources, e runners.Estimates) []runners.Difference {
	var differences []runners.Difference
	add := func(property, asked, has string) {
		differences = append(differences, runners.Difference{Property: property, Asked: asked, Has: has})
	}
	if need.MilliCPU > r.MilliCPU {
		property := "EstimatedCPU"
		if e.MilliCPU == 0 {
			property = "EstimatedComputeUnits"
		}
		add(property, number(milli(need.MilliCPU)), number(milli(r.MilliCPU))+" (--slots)")
	}
	if need.Memory > r.Memory {
		property := "EstimatedMemory"
		if e.Memory == 0 {
			property = "EstimatedComputeUnits"
		}
		add(property, size(float64(need.Memory)), size(float64(r.Memory))+" (--memory)")
	}
	for _, name := range slices.Sorted(maps.Keys(need.Custom)) {
		if asked, has := need.Custom[name], r.Custom[name]; asked > has {
			add(runners.ResourcePrefix+name, number(milli(asked)), number(milli(has))+" (--resource)")
		}
	}
	return differences
}

func milli(thousandths int64) float64 { return float64(thousandths) / 1000 }

// number shows at most three digits behind the point.
func number(f float64) string { return strconv.FormatFloat(f, 'f', -1, 64) }

func size(f float64) string {
	return units.CustomSize("%.4g %s", f, 1024, []string{"B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"})
}

// count is a number of things.
func count(n float64, thing string) string {
	if n == 1 {
		return "1 " + thing
	}
	return number(n) + " " + thing + "s"
}
