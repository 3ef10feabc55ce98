package execution

import "testing"

// What there is most gone of counts, and what there is none of does not.
func TestBusyShare(t *testing.T) {
	total := Resources{MilliCPU: 4000, Memory: 100, Runners: 8, Custom: map[string]int64{"gpu": 2000, "none": 0}}
	for _, tc := range []struct {
		free Resources
		want float64
	}{
		{total, 0},
		{Resources{MilliCPU: 3000, Memory: 50, Runners: 8, Custom: map[string]int64{"gpu": 2000, "none": 0}}, 0.5},
		{Resources{MilliCPU: 3000, Memory: 50, Runners: 8, Custom: map[string]int64{"gpu": 500, "none": 0}}, 0.75},
	} {
		if got := tc.free.used(total); got != tc.want {
			t.Errorf("of %+v, %+v is free: %v is used, want %v", total, tc.free, got, tc.want)
		}
	}
}
