package runners

import (
	"strings"
	"testing"
)

func keyOf(t *testing.T, tenant, image string, words ...string) Key {
	t.Helper()
	var props []Property
	for _, w := range words {
		name, value, _ := strings.Cut(w, "=")
		props = append(props, Property{Name: name, Value: value})
	}
	p, err := ParsePlatform(props, nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	return newKey(Request{Platform: p, Tenant: tenant}, Image{ID: image})
}

func TestKeysThatAreEqual(t *testing.T) {
	cases := map[string][2][]string{
		"order":    {{"b=2", "a=1"}, {"a=1", "b=2"}},
		"case":     {{"OSFamily=linux", "CORES=4"}, {"cores=4"}},
		"alias":    {{"dockerReuse=true"}, {"recycle-runner=TRUE"}},
		"default":  {{"container-image=host", "network=off", "Pool=default"}, {"recycle-runner=false"}},
		"duration": {{"default-timeout=90s"}, {"default-timeout=1m30s"}},
	}
	for name, c := range cases {
		a, b := keyOf(t, "t", "i", c[0]...), keyOf(t, "t", "i", c[1]...)
		if a != b || a.Diff(b) != "" {
			t.Errorf("%s: %v and %v differ in %q", name, a, b, a.Diff(b))
		}
	}
}

// TestKeyedProperties: what the page says of the key is so, for each property that
// it has.
func TestKeyedProperties(t *testing.T) {
	samples := map[string]string{
		"container-image": "docker://x", "network": "bridge", "dockeruser": "root", "default-timeout": "1s", "termination-grace-period": "1s",
		"runner-crashed-exit-codes": "1", "transient-error-exit-codes": "1", "env-overrides": "A=1", "secret-env-overrides": "A=1",
		"env-overrides-base64": "QT0x", "secret-env-overrides-base64": "QT0x", "workload-isolation-type": "podman", "osfamily": "linux", "arch": archNames()[0],
		"persistentworkerprotocol": "json",
	}
	// Without workers, what is said of them is no part of it.
	none := keyOf(t, "t", "i", "persistent-workers=true")
	if without := keyOf(t, "t", "i", "persistentWorkerKey=1", "persistentWorkerProtocol=json"); without != none {
		t.Errorf("without workers: %v and %v", without, none)
	}
	for _, d := range PropertyDocs() {
		value, ok := samples[strings.ToLower(d.Name)]
		switch {
		case ok:
		case strings.Contains(d.Values, "anything else is false"):
			value = "true"
		case strings.HasPrefix(d.Meaning, "Not supported."):
			if d.Keyed {
				t.Errorf("%s is never a part of a key", d.Name)
			}
			continue
		default:
			value = "1" // a number, an argument or any text
		}
		if key := keyOf(t, "t", "i", "persistent-workers=true", d.Name+"="+value); (key != none) != d.Keyed {
			t.Errorf("%s: keyed is %v, and the keys are %v and %v", d.Name, d.Keyed, key, none)
		}
	}
}

func TestKeyDiff(t *testing.T) {
	base := keyOf(t, "t", "i", "b=1", "container-registry-password=hunter2")
	cases := map[string]struct {
		other Key
		want  string
	}{
		"tenant":        {keyOf(t, "", "i", "b=1", "container-registry-password=hunter2"), "tenant: t vs unset"},
		"value":         {keyOf(t, "t", "i", "b=2", "container-registry-password=hunter2"), "b: 1 vs 2"},
		"more and less": {keyOf(t, "t", "i", "a=1", "container-registry-password=hunter2", "z=1"), "a: unset vs 1, b: 1 vs unset, z: unset vs 1"},
		"no password":   {keyOf(t, "t", "i", "b=1"), "container-registry-password"},
		"password":      {keyOf(t, "t", "i", "b=1", "container-registry-password=hunter3"), "container-registry-password"},
		"variables":     {keyOf(t, "t", "i", "b=1", "container-registry-password=hunter2", "env-overrides=A=hunter2"), "env-overrides"},
		"image":         {keyOf(t, "t", "j", "b=1", "container-registry-password=hunter2"), "image that the name stands for: i vs j"},
		"image name":    {keyOf(t, "t", "j", "b=1", "container-registry-password=hunter2", "container-image=docker://x"), "container-image: host vs docker://x"},
	}
	for name, c := range cases {
		if got := base.Diff(c.other); got != c.want || base == c.other {
			t.Errorf("%s: %q, want %q", name, got, c.want)
		}
		if s := c.other.String(); strings.Contains(s, "hunter") {
			t.Errorf("%s: a secret is told: %s", name, s)
		}
	}
}

func TestStateMachine(t *testing.T) {
	allowed := map[State][]State{
		Starting: {Busy, Idle, Removed},
		Busy:     {Idle, Removed},
		Idle:     {Busy, Paused, Removed},
		Paused:   {Busy, Removed},
		Removed:  {},
	}
	for from, to := range allowed {
		for next := Starting; next <= Removed; next++ {
			want := false
			for _, s := range to {
				want = want || s == next
			}
			if from.canBecome(next) != want {
				t.Errorf("%v to %v: %v", from, next, !want)
			}
		}
	}
	defer func() {
		if recover() == nil {
			t.Error("a paused runner became idle")
		}
	}()
	(&runner{state: Paused}).become(Idle)
}

func TestHistoryIsBounded(t *testing.T) {
	var h history
	if _, ok := h.last(Key{}); ok {
		t.Error("an empty history knows something")
	}
	for i := range 3 * len(h.past) {
		h.add(gone{info: RunnerInfo{ID: string(rune('a' + i))}, key: Key{tenant: string(rune('a' + i%70))}})
	}
	if g, ok := h.last(Key{tenant: string(rune('a' + 51))}); !ok || g.info.ID != string(rune('a'+191)) {
		t.Errorf("the last one: %v %v", g, ok)
	}
	if g, ok := h.last(Key{tenant: string(rune('a' + 55))}); ok {
		t.Errorf("one too old: %v", g)
	}
}

func TestMemoryOfThisMachine(t *testing.T) {
	available, total, err := machineMemory()
	if err != nil || available <= 0 || total < available {
		t.Errorf("%d of %d, %v", available, total, err)
	}
}
