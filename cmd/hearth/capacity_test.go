package main

import (
	"math"
	"strings"
	"testing"
)

func TestCapacityFillsIn(t *testing.T) {
	c := goodFlags(t)
	c.Capacity.Resource = map[string]float64{"GPU": 2, "licence": 0.5}
	if err := c.validate(); err != nil {
		t.Fatal(err)
	}
	machine, err := machineMemory()
	if err != nil {
		t.Fatal(err)
	}
	total := c.total()
	if total.Memory <= 0 || total.Memory >= machine || total.Memory < machine/2 {
		t.Errorf("%d bytes of the machine's %d are for actions", total.Memory, machine)
	}
	if total.MilliCPU != 2000 || total.Runners != 8 || total.Custom["gpu"] != 2000 || total.Custom["licence"] != 500 {
		t.Errorf("total %+v", total)
	}
	if err := total.Validate(); err != nil {
		t.Error(err)
	}
}

func TestCapacityTakesWhatIsSaid(t *testing.T) {
	c := goodFlags(t)
	c.Capacity.Memory = 5 << 30
	if err := c.validate(); err != nil || c.total().Memory != 5<<30 {
		t.Errorf("%v, %+v", err, c.total())
	}
}

func TestReserve(t *testing.T) {
	const gib = 1 << 30
	for total, want := range map[int64]int64{512 << 20: 256 << 20, 2 * gib: gib / 2, 8 * gib: gib, 64 * gib: 8 * gib} {
		if got := reserve(total); got != want {
			t.Errorf("of %d bytes %d are kept, want %d", total, got, want)
		}
	}
}

func TestCapacityNamesEveryBadFlag(t *testing.T) {
	c := &capacityFlags{Memory: -1, Resource: map[string]float64{"gpu": 0, "nan": math.NaN(), "": 1, "inf": math.Inf(1)}}
	err := c.validate()
	if err == nil {
		t.Fatal("nothing is wrong")
	}
	for _, flag := range []string{"--memory", "--resource gpu=0", "--resource nan=NaN", "--resource =1", "--resource inf=+Inf"} {
		if !strings.Contains(err.Error(), flag) {
			t.Errorf("%s is not named in: %v", flag, err)
		}
	}
}
