package runners

import (
	"runtime"
	"slices"
	"strings"
	"time"
)

// Property is one platform property as sent.
type Property struct{ Name, Value string }

// PropertyDoc documents a platform property that has a meaning here.
type PropertyDoc struct {
	// Name as it is usually written; case does not matter.
	Name string
	// Aliases are other names of the same property.
	Aliases []string
	// Values says what the property can be set to, Default what it is unset.
	Values, Default string
	// Meaning says what it does.
	Meaning string
	// Keyed: two actions share a runner only if they have the same value of it.
	Keyed bool
}

// PropertyDocs documents every platform property that has a meaning here. All
// others are accepted and only tell runners apart.
func PropertyDocs() []PropertyDoc {
	table := descriptors()
	docs := make([]PropertyDoc, 0, len(table))
	for _, d := range table {
		d.Keyed = !d.keyless
		docs = append(docs, d.PropertyDoc)
	}
	return docs
}

// descriptor is what the parser knows of a property.
type descriptor struct {
	PropertyDoc
	// unset is a value that, like the empty one, means that the property is not set.
	unset string
	// has is what the runners of this host have, if the property asks for a kind
	// of runner: another value is no mistake, but nothing here can take the action.
	has string
	// refused says, if the property asks for what no action gets, why that is so.
	refused string
	// keyless: a runner serves actions whatever their values of it are.
	keyless bool
	// secret: neither the value nor anything from which it follows is ever shown.
	secret bool
	// parse stores in p what value means. It returns the canonical value: the
	// same one for all values with that meaning, "" for that of an unset
	// property. ok is false if the value is not allowed.
	parse func(p *Platform, value string) (canonical string, ok bool)
}

// descriptors is the table of properties: to add one, add it here.
func descriptors() []descriptor {
	return slices.Concat(
		containerProperties(), recyclingProperties(), workerProperties(), workspaceProperties(),
		commandProperties(), estimateProperties(), hostProperties(), idleProperties(), refusedProperties(),
	)
}

const (
	propertyImage   = "container-image"
	propertyNetwork = "network"
	boolValues      = `"true"; anything else is false`
	// maxGrace bounds how long an action can go on after its timeout.
	maxGrace = time.Minute
)

func parseImage(p *Platform, value string) (string, bool) {
	const docker = "docker://"
	if value == HostImage {
		p.Image.Name = HostImage
		return value, true
	}
	name, ok := strings.CutPrefix(value, docker)
	// An image named "host" must name its registry too, or it would be
	// taken for the host itself.
	if !ok || name == "" || name == HostImage || strings.ContainsFunc(name, notInReference) {
		return "", false
	}
	p.Image.Name = name
	return value, true
}

func notInReference(r rune) bool { return r <= ' ' || r > '~' }

// parseBool takes only "true" for true, as peers do.
func parseBool(to *bool, value string) (string, bool) {
	*to = strings.EqualFold(value, "true")
	if *to {
		return "true", true
	}
	return "", true
}

func parseUser(p *Platform, value string) (string, bool) {
	switch value {
	case "root", "0", "0:0":
		p.RunAsRoot = true
		return "root", true
	case "nobody", "65534", "65534:65534":
		return "", true
	default:
		return "", false
	}
}

func parseNetwork(p *Platform, value string) (string, bool) {
	switch strings.ToLower(value) {
	case NetworkOff, "none":
		p.Network = NetworkOff
		return "", true
	case NetworkBridge, "standard", "external":
		p.Network = NetworkBridge
		return NetworkBridge, true
	case NetworkHost:
		p.Network = NetworkHost
		return NetworkHost, true
	default:
		return "", false
	}
}

// archNames are the names of this host's architecture.
func archNames() []string {
	switch runtime.GOARCH {
	case "amd64":
		return []string{"amd64", "x86_64"}
	case "arm64":
		return []string{"arm64", "aarch64"}
	default:
		return []string{runtime.GOARCH}
	}
}

func parseArch(_ *Platform, value string) (string, bool) {
	for _, name := range archNames() {
		if strings.EqualFold(value, name) {
			return "", true
		}
	}
	return "", false
}

// parseDuration allows up to limit, or anything positive if it is 0.
func parseDuration(to *time.Duration, value string, limit time.Duration) (string, bool) {
	d, err := time.ParseDuration(value)
	if err != nil || d < 0 || (limit == 0 && d == 0) || (limit > 0 && d > limit) {
		return "", false
	}
	*to = d
	if d == 0 {
		return "", true
	}
	return d.String(), true
}
