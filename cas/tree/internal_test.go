package tree

import "testing"

func TestCheckRelease(t *testing.T) {
	for release, want := range map[string]string{
		"5.10.0-28-amd64": "no", "6.1.0-18-amd64": "no", "6.7.12": "no",
		"6.8.0-45-generic": "loops", "6.11.5": "loops", "6.12.3": "loops", "6.12": "loops",
		"6.12.4": "files", "6.12.48+deb13-amd64": "files", "6.18.44-fc-v782": "files", "7.0-rc1": "files",
		"": "no", "Linux": "no",
	} {
		loops, err := checkRelease(release)
		got := "files"
		if err != nil {
			got = "no"
		} else if loops {
			got = "loops"
		}
		if got != want {
			t.Errorf("%q: %s, want %s", release, got, want)
		}
	}
}
