package runners

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
)

// Platform is the effective meaning of an action's platform properties, made
// by ParsePlatform.
type Platform struct {
	// Image to run in.
	Image ImageRef
	// Recycle keeps the runner for later actions.
	Recycle bool
	// RecyclingKey keeps runners apart that are otherwise alike.
	RecyclingKey string
	// Worker and Workspace are what goes on from one action to the next.
	Worker    WorkerOptions
	Workspace WorkspaceOptions
	// RunAsRoot: the action runs as root in the container, not as nobody.
	RunAsRoot bool
	// WritableInputs: the action's user owns its input files and may write to them.
	WritableInputs bool
	// Network is NetworkOff, NetworkBridge or NetworkHost.
	Network string
	// Timeout of actions that set none; 0: the server's.
	Timeout time.Duration
	// Grace between SIGTERM and SIGKILL at a timeout.
	Grace time.Duration
	// ExtraArgs follow the command's arguments, Env replaces variables of its
	// environment; of one that is there twice, the last counts.
	ExtraArgs []string
	Env       Variables
	// CrashedCodes and TransientCodes are the exit codes after which the action is
	// run again, in another runner or in any. They are sorted.
	CrashedCodes, TransientCodes []int32
	// Estimates of what the action needs; they do not tell runners apart.
	Estimates Estimates
	// Properties in canonical form: names in lower case, aliases and defaults
	// resolved, sorted, without secrets.
	Properties []Property

	// canonical is Properties and the hashes of the secrets, as Key needs them.
	canonical string
}

// ParsePlatform finds out what props, those of an action, mean. They prevail
// over defaults, the server's own, and overrides, from request headers, prevail
// over them. An empty value means that the property is not set. An error is an
// ErrPlatform that names the property, its value and what is allowed.
func ParsePlatform(props, defaults, overrides []Property) (Platform, error) {
	return NewDialect().Parse(props, defaults, overrides)
}

// Dialect parses many platforms: the table of properties is made once for all of them,
// which is most of what ParsePlatform does. It is safe for concurrent use.
type Dialect struct{ table []descriptor }

// NewDialect makes a Dialect.
func NewDialect() *Dialect { return &Dialect{table: descriptors()} }

// Parse is ParsePlatform.
func (d *Dialect) Parse(props, defaults, overrides []Property) (Platform, error) {
	table := d.table
	sent := make(map[string]setting, len(props)+len(defaults)+len(overrides)+1)
	sent[propertyImage] = setting{name: propertyImage, values: []string{HostImage}, level: -1}
	for level, list := range [][]Property{defaults, props, overrides} {
		for _, p := range list {
			if err := merge(sent, table, level, p); err != nil {
				return Platform{}, err
			}
		}
	}
	platform := Platform{Network: NetworkOff}
	var differences []Difference
	for _, name := range slices.Sorted(maps.Keys(sent)) {
		differs, err := platform.set(table, name, sent[name])
		if err != nil {
			return Platform{}, err
		}
		if differs.Property != "" {
			differences = append(differences, differs)
		}
	}
	if len(differences) > 0 {
		return Platform{}, Unmatched(differences...)
	}
	platform.Recycle = platform.Recycle || platform.Worker.On()
	return platform, nil
}

// setting is a property under its canonical name.
type setting struct {
	name   string // as sent
	values []string
	level  int // of defaults, props and overrides
}

// merge adds a property to what was sent, in place of what a lower level set.
func merge(sent map[string]setting, table []descriptor, level int, p Property) error {
	name, value := strings.TrimSpace(p.Name), strings.TrimSpace(p.Value)
	if name == "" || strings.ContainsRune(name, 0) || strings.ContainsRune(value, 0) {
		return fmt.Errorf("%w: property %s has no name or a NUL byte in it", ErrPlatform, quote(p.Name))
	}
	canonical := strings.ToLower(name)
	if d := find(table, canonical); d != nil {
		canonical = strings.ToLower(d.Name)
		if d.unset != "" && strings.EqualFold(value, d.unset) {
			return nil
		}
	}
	if value == "" {
		return nil
	}
	old, ok := sent[canonical]
	if !ok || old.level < level {
		sent[canonical] = setting{name: name, values: []string{value}, level: level}
		return nil
	}
	if !slices.Contains(old.values, value) {
		old.values = append(old.values, value)
		slices.Sort(old.values)
		sent[canonical] = old
	}
	return nil
}

func find(table []descriptor, name string) *descriptor {
	if resource, ok := strings.CutPrefix(strings.ToLower(name), ResourcePrefix); ok && resource != "" {
		d := customResource(resource)
		return &d
	}
	for i := range table {
		d := &table[i]
		if strings.EqualFold(d.Name, name) {
			return d
		}
		for _, alias := range d.Aliases {
			if strings.EqualFold(alias, name) {
				return d
			}
		}
	}
	return nil
}

// set stores one property in p, or tells in what it differs from all that there
// is. Properties without a meaning here may have several values, as the API
// allows; one with a meaning may not.
func (p *Platform) set(table []descriptor, name string, s setting) (Difference, error) {
	d := find(table, name)
	if d == nil {
		for _, v := range s.values {
			p.add(name, v, secretName(name))
		}
		return Difference{}, nil
	}
	if len(s.values) > 1 {
		return Difference{}, fmt.Errorf("%w: property %s is set to more than one value (%s); send one", ErrPlatform, s.name, d.show(s.values...))
	}
	canonical, ok := d.parse(p, s.values[0])
	switch {
	case !ok && d.has != "":
		return Difference{Property: s.name, Asked: quote(s.values[0]), Has: quote(d.has)}, nil
	case !ok && d.refused != "":
		return Difference{}, fmt.Errorf("%w: property %s is %s, which is not supported: leave it out. %s", ErrPlatform, s.name, d.show(s.values...), d.refused)
	case !ok:
		return Difference{}, fmt.Errorf("%w: property %s is %s; allowed: %s", ErrPlatform, s.name, d.show(s.values...), d.Values)
	case canonical != "" && !d.keyless:
		p.add(name, canonical, d.secret)
	}
	return Difference{}, nil
}

func (d *descriptor) show(values ...string) string {
	if d.secret {
		return hidden
	}
	shown := make([]string, 0, len(values))
	for _, v := range values {
		shown = append(shown, quote(v))
	}
	return strings.Join(shown, ", ")
}

const hidden = "(hidden)"

// add appends a property to the canonical forms; names come in order.
func (p *Platform) add(name, value string, secret bool) {
	if secret {
		sum := sha256.Sum256([]byte(value))
		value = hex.EncodeToString(sum[:])
	} else {
		p.Properties = append(p.Properties, Property{Name: name, Value: value})
	}
	p.canonical += name + "\x00" + value + "\x00"
}

// secretName tells whether a property without a meaning here may hold a secret.
func secretName(name string) bool {
	for _, word := range []string{"password", "secret", "token"} {
		if strings.Contains(name, word) {
			return true
		}
	}
	return false
}

// quote shows what a client sent, at bearable length.
func quote(s string) string {
	const most = 200
	if len(s) > most {
		return fmt.Sprintf("%q and %d bytes more", s[:most], len(s)-most)
	}
	return fmt.Sprintf("%q", s)
}
