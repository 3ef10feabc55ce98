package runners

import (
	"slices"
	"strings"

	"github.com/docker/go-units"
)

// idleProperties have a meaning elsewhere, and none here, since what they ask for
// is always so or cannot be noticed. Were they unknown ones, they would be parts of
// the key, and would make runners cold for nothing.
func idleProperties() []descriptor {
	return slices.Concat([]descriptor{
		idle("nonroot-workspace", boolValues, "The directories of the workspace always belong to the action's user."),
		idle("overlayfs-workspace", boolValues, "Inputs are never written to, however they appear; see --input-roots."),
		idle("dockerInit", boolValues, "Process 1 of each container is hearth's exec server, which reaps all orphans."),
		idle("dockerUseURandom", boolValues, "/dev/random does not block."),
		idle("dockerDropCapabilities", "capabilities, with commas between", "All are dropped. For root, KILL, SETGID and SETUID are left."),
		idle("use-self-hosted-executors", boolValues, "All runners are the server's own."),
	}, []descriptor{{PropertyDoc: PropertyDoc{
		Name: "dockerShmSize", Values: `bytes such as "128m", of at most 1g; k, m and g are powers of 1024`, Default: "`1g`",
		Meaning: "No effect: /dev/shm is 1 GiB, or an eighth of --runner-memory if that is less. More fails the action.",
	}, keyless: true, parse: parseShared}})
}

// idle describes a property that has no effect.
func idle(name, values, why string) descriptor {
	return descriptor{
		PropertyDoc: PropertyDoc{Name: name, Values: values, Meaning: "No effect. " + why},
		keyless:     true,
		parse:       func(*Platform, string) (string, bool) { return "", true },
	}
}

func parseShared(_ *Platform, value string) (string, bool) {
	n, err := units.RAMInBytes(value)
	return "", err == nil && n >= 0 && n <= 1<<30
}

// refusedProperties ask for what an action never gets here. An action that counts
// on it is better told so than run without it.
func refusedProperties() []descriptor {
	return []descriptor{
		refused("dockerPrivileged", "An action never has more rights than its container's user."),
		refused("dockerSiblingContainers", "No action gets at the container engine of the host."),
		refused("init-dockerd", "No container engine runs beside an action."),
		refused("enable-dockerd-tcp", "No container engine runs beside an action."),
		refused("include-secrets", "The server keeps no secrets; send them in a header as secret-env-overrides."),
		refusedUnlessEmpty("dockerAddCapabilities", "Actions run without capabilities."),
		refusedUnlessEmpty("dockerRuntime", "The server chooses the runtime: the one that works on this host."),
		refusedUnlessEmpty("dockerUlimits", "The limits are the server's own, the same for all actions."),
		refusedUnlessEmpty("persistent-volumes", "Nothing but the runner itself is kept between actions: an action that counts on what it left in a volume would not find it. What may be lost can lie in the container of a recycled runner."),
	}
}

// refused describes a switch that cannot be turned on.
func refused(name, why string) descriptor {
	return descriptor{
		PropertyDoc: PropertyDoc{Name: name, Values: `"false": "true" fails the action`, Default: "`false`", Meaning: "Not supported. " + why},
		refused:     why, keyless: true,
		parse: func(_ *Platform, v string) (string, bool) { return "", !strings.EqualFold(v, "true") },
	}
}

// refusedUnlessEmpty describes a property of which no value is allowed.
func refusedUnlessEmpty(name, why string) descriptor {
	return descriptor{
		PropertyDoc: PropertyDoc{Name: name, Values: "empty: all else fails the action", Meaning: "Not supported. " + why},
		refused:     why, keyless: true,
		parse: func(*Platform, string) (string, bool) { return "", false },
	}
}
