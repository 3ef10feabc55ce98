package runners

import (
	"fmt"
	"strings"
)

// Request asks for a runner.
type Request struct {
	// Platform from ParsePlatform.
	Platform Platform
	// Tenant and Instance name for whom the action runs.
	Tenant, Instance string
	// OnStep, if not nil, is called in the goroutine of Acquire when a step begins
	// that can take a while, with the reason in words. A warm, running runner
	// takes no step.
	OnStep func(step Step, why string)
	// Holds, if not nil, says how much of what the action needs is in a runner with
	// these Belongings, in whatever unit. Of several idle runners of the key the one
	// with the most is taken. It is called under a lock, so it must be quick.
	Holds func(belongings any) int
}

// Key says which actions may share a runner: those whose Keys are equal.
type Key struct {
	tenant, instance string
	// platform in canonical form: NAME NUL VALUE NUL, sorted; for secrets the
	// hash of the value.
	platform string
	image    string // the ID, which changes when a tag moves
}

func newKey(req Request, image Image) Key {
	return Key{tenant: req.Tenant, instance: req.Instance, platform: req.Platform.canonical, image: image.ID}
}

// String shows the key without secrets.
func (k Key) String() string {
	var parts []string
	add := func(name, value string) {
		if value != "" {
			parts = append(parts, name+"="+value)
		}
	}
	add("tenant", k.tenant)
	add("instance", k.instance)
	for rest := k.platform; rest != ""; {
		var p Property
		p, rest = nextProperty(rest)
		add(p.Name, shownValue(p))
	}
	add("image", k.image)
	return strings.Join(parts, " ")
}

// Diff says in words in what k and other differ, k's part first, or "".
func (k Key) Diff(other Key) string {
	var words []string
	differ := func(name, a, b string) {
		if a != b {
			words = append(words, fmt.Sprintf("%s: %s vs %s", name, orUnset(a), orUnset(b)))
		}
	}
	differ("tenant", k.tenant, other.tenant)
	differ("instance name", k.instance, other.instance)
	words = append(words, diffProperties(k.platform, other.platform)...)
	if len(words) == 0 {
		// With another container-image the ID says nothing more.
		differ("image that the name stands for", k.image, other.image)
	}
	return strings.Join(words, ", ")
}

// diffProperties walks two sorted lists at the same time.
func diffProperties(a, b string) []string {
	var words []string
	for a != "" || b != "" {
		pa, restA := nextProperty(a)
		pb, restB := nextProperty(b)
		switch {
		case pa == pb:
			a, b = restA, restB
			continue
		case b == "" || (a != "" && pa.Name < pb.Name):
			pb, a = Property{Name: pa.Name}, restA
		case a == "" || pb.Name < pa.Name:
			pa, b = Property{Name: pb.Name}, restB
		default:
			a, b = restA, restB
		}
		if isSecret(pa.Name) {
			words = append(words, pa.Name)
			continue
		}
		words = append(words, fmt.Sprintf("%s: %s vs %s", pa.Name, orUnset(pa.Value), orUnset(pb.Value)))
	}
	return words
}

// nextProperty cuts the first property off a canonical platform.
func nextProperty(platform string) (p Property, rest string) {
	p.Name, rest, _ = strings.Cut(platform, "\x00")
	p.Value, rest, _ = strings.Cut(rest, "\x00")
	return p, rest
}

func isSecret(name string) bool {
	d := find(descriptors(), name)
	return (d == nil && secretName(name)) || (d != nil && d.secret)
}

func shownValue(p Property) string {
	if isSecret(p.Name) {
		return hidden
	}
	return p.Value
}

func orUnset(value string) string {
	if value == "" {
		return "unset"
	}
	return value
}
