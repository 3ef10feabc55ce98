package runners

import "strings"

// containerProperties say what the container is like, and as whom the action runs
// in it.
func containerProperties() []descriptor {
	return []descriptor{
		{PropertyDoc: PropertyDoc{
			Name:    propertyImage,
			Values:  `"host" (the host's own root file system), "docker://REFERENCE" (such as docker://docker.io/library/debian:12), or "none" for the default`,
			Default: "`host`", Meaning: "Container image in which the action runs.",
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
			Name: "dockerRunAsRoot", Values: boolValues, Default: "`false`",
			Meaning: "Run the action as root in the container, instead of as nobody.",
		}, parse: func(p *Platform, v string) (string, bool) {
			root := false
			canonical, ok := parseBool(&root, v)
			p.RunAsRoot = p.RunAsRoot || root
			return canonical, ok
		}},
		{PropertyDoc: PropertyDoc{
			Name: "dockerUser", Values: `"root", "0" or "0:0"; "nobody", "65534" or "65534:65534"`, Default: "`nobody`",
			Meaning: "User that the action runs as. The image's own USER has no say, and no other user is possible.",
		}, parse: parseUser},
		{PropertyDoc: PropertyDoc{
			Name: "writable-inputs", Values: boolValues, Default: "`false`",
			Meaning: "The action's user owns its input files and may write to them; nobody else sees what is written. For root they always are.",
		}, parse: func(p *Platform, v string) (string, bool) { return parseBool(&p.WritableInputs, v) }},
		{PropertyDoc: PropertyDoc{
			Name: propertyNetwork, Aliases: []string{"dockerNetwork"},
			Values:  `"off" or "none", "bridge" (or "standard" or "external"), "host"`,
			Default: "`off`",
			Meaning: "Network that the action can use. Host is the network of the host itself, with everything that listens on its loopback: only where the server runs with --allow-host-network.",
		}, parse: parseNetwork},
	}
}

// recyclingProperties say which actions use a runner one after another.
func recyclingProperties() []descriptor {
	return []descriptor{
		{PropertyDoc: PropertyDoc{
			Name: "recycle-runner", Aliases: []string{"dockerReuse"}, Values: boolValues, Default: "`false`",
			Meaning: "Keep the container for later actions with the same properties.",
		}, parse: func(p *Platform, v string) (string, bool) { return parseBool(&p.Recycle, v) }},
		{PropertyDoc: PropertyDoc{
			Name: "runner-recycling-key", Values: "any",
			Meaning: "Actions with different keys never share a container.",
		}, parse: func(p *Platform, v string) (string, bool) { p.RecyclingKey = v; return v, true }},
		{PropertyDoc: PropertyDoc{
			Name: "Pool", Values: `any; "default" is as empty`,
			Meaning: "Pool of workers; there is only one here, so that it only tells runners apart.",
		}, unset: "default", parse: func(_ *Platform, v string) (string, bool) { return strings.ToLower(v), true }},
	}
}

// hostProperties ask for a kind of worker.
func hostProperties() []descriptor {
	return []descriptor{
		{PropertyDoc: PropertyDoc{
			Name: "workload-isolation-type", Values: `"podman"`, Default: "`podman`",
			Meaning: "What keeps actions apart. Others fail the action.",
		}, has: "podman", keyless: true, parse: func(_ *Platform, v string) (string, bool) { return "", strings.EqualFold(v, "podman") }},
		{PropertyDoc: PropertyDoc{
			Name: "OSFamily", Values: `"linux"`, Default: "`linux`",
			Meaning: "Operating system of the worker. Others fail the action.",
		}, has: "linux", keyless: true, parse: func(_ *Platform, v string) (string, bool) { return "", strings.EqualFold(v, "linux") }},
		{PropertyDoc: PropertyDoc{
			Name: "Arch", Values: `the host's own: "amd64" or "x86_64", "arm64" or "aarch64", or what Go calls it`, Default: "the host's",
			Meaning: "Processor architecture of the worker. Others fail the action.",
		}, has: archNames()[0], keyless: true, parse: parseArch},
	}
}
