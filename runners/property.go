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
	// Values says what the property can be set to.
	Values string
	// Meaning says what it does.
	Meaning string
}

// PropertyDocs documents every platform property that has a meaning here. All
// others are accepted and only tell runners apart.
func PropertyDocs() []PropertyDoc {
	table := descriptors()
	docs := make([]PropertyDoc, 0, len(table))
	for _, d := range table {
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
	// secret: neither the value nor anything from which it follows is ever shown.
	secret bool
	// parse stores in p what value means. It returns the canonical value: the
	// same one for all values with that meaning, "" for that of an unset
	// property. ok is false if the value is not allowed.
	parse func(p *Platform, value string) (canonical string, ok bool)
}

// descriptors is the table of properties: to add one, add it here.
func descriptors() []descriptor {
	return slices.Concat(containerProperties(), hostProperties(), estimateProperties())
}

func containerProperties() []descriptor {
	return []descriptor{
		{PropertyDoc: PropertyDoc{
			Name:    propertyImage,
			Values:  `"host" (the host's own root file system), "docker://REFERENCE" (such as docker://docker.io/library/debian:12), or empty or "none" for the server's default`,
			Meaning: "Container image in which the action runs.",
		}, unset: "none", parse: parseImage},
		{PropertyDoc: PropertyDoc{
			Name: "container-registry-username", Values: "any",
			Meaning: "User name for the registry of the image.",
		}, parse: func(p *Platform, v string) (string, bool) { p.Image.Username = v; return v, true }},
		{PropertyDoc: PropertyDoc{
			Name: "container-registry-password", Values: "any",
			Meaning: "Password for the registry of the image. Send it in a header: properties are stored in clear.",
		}, secret: true, parse: func(p *Platform, v string) (string, bool) { p.Image.Password = v; return v, true }},
		{PropertyDoc: PropertyDoc{
			Name: "recycle-runner", Aliases: []string{"dockerReuse"}, Values: boolValues,
			Meaning: "Keep the container for later actions with the same properties.",
		}, parse: func(p *Platform, v string) (string, bool) { return parseBool(&p.Recycle, v) }},
		{PropertyDoc: PropertyDoc{
			Name: "runner-recycling-key", Values: "any",
			Meaning: "Actions with different keys never share a container.",
		}, parse: func(p *Platform, v string) (string, bool) { p.RecyclingKey = v; return v, true }},
		{PropertyDoc: PropertyDoc{
			Name: "dockerRunAsRoot", Values: boolValues,
			Meaning: "Run the action as root in the container, instead of as nobody.",
		}, parse: func(p *Platform, v string) (string, bool) {
			root := false
			canonical, ok := parseBool(&root, v)
			p.RunAsRoot = p.RunAsRoot || root
			return canonical, ok
		}},
		{PropertyDoc: PropertyDoc{
			Name: "dockerUser", Values: `"root" or "0", "nobody" or "65534" (the default)`,
			Meaning: "User that the action runs as.",
		}, parse: parseUser},
		{PropertyDoc: PropertyDoc{
			Name: "writable-inputs", Values: boolValues,
			Meaning: "The action's user owns its input files and may write to them; nobody else sees what is written. For root they always are.",
		}, parse: func(p *Platform, v string) (string, bool) { return parseBool(&p.WritableInputs, v) }},
		{PropertyDoc: PropertyDoc{
			Name: "network", Aliases: []string{"dockerNetwork"},
			Values:  `"off" or "none" (the default), "bridge" or "standard"`,
			Meaning: "Network that the action can use.",
		}, parse: parseNetwork},
	}
}

func hostProperties() []descriptor {
	return []descriptor{
		{PropertyDoc: PropertyDoc{
			Name: "workload-isolation-type", Values: `empty or "podman"`,
			Meaning: "What keeps actions apart.",
		}, has: "podman", parse: func(_ *Platform, v string) (string, bool) { return "", strings.EqualFold(v, "podman") }},
		{PropertyDoc: PropertyDoc{
			Name: "OSFamily", Values: `empty or "linux"`,
			Meaning: "Operating system of the worker.",
		}, has: "linux", parse: func(_ *Platform, v string) (string, bool) { return "", strings.EqualFold(v, "linux") }},
		{PropertyDoc: PropertyDoc{
			Name: "Arch", Values: "empty or " + strings.Join(archNames(), " or ") + ", as this host is",
			Meaning: "Processor architecture of the worker.",
		}, has: archNames()[0], parse: parseArch},
		{PropertyDoc: PropertyDoc{
			Name: "Pool", Values: "any",
			Meaning: "Pool of workers; there is only one here.",
		}, unset: "default", parse: func(_ *Platform, v string) (string, bool) { return strings.ToLower(v), true }},
		{PropertyDoc: PropertyDoc{
			Name: "default-timeout", Values: `a positive Go duration such as "90s" or "1h30m"`,
			Meaning: "Timeout of actions that set none.",
		}, parse: func(p *Platform, v string) (string, bool) { return parseDuration(&p.Timeout, v, 0) }},
		{PropertyDoc: PropertyDoc{
			Name: "termination-grace-period", Values: `a Go duration such as "10s", of at most ` + maxGrace.String(),
			Meaning: "Time between SIGTERM and SIGKILL when the timeout expires.",
		}, parse: func(p *Platform, v string) (string, bool) { return parseDuration(&p.Grace, v, maxGrace) }},
	}
}

const (
	propertyImage = "container-image"
	boolValues    = `"true"; anything else is false`
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
	case "root", "0":
		p.RunAsRoot = true
		return "root", true
	case "nobody", "65534":
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
	case NetworkBridge, "standard":
		p.Network = NetworkBridge
		return NetworkBridge, true
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
