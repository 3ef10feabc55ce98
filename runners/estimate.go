package runners

import (
	"math"
	"strconv"
	"strings"

	"github.com/docker/go-units"
)

// Estimates is what an action says it needs of the machine. What is zero, it
// does not say.
type Estimates struct {
	// MilliCPU is EstimatedCPU, in thousandths of a CPU.
	MilliCPU int64
	// Memory is EstimatedMemory, in bytes.
	Memory int64
	// MilliUnits is EstimatedComputeUnits, in thousandths.
	MilliUnits int64
	// FreeDisk is EstimatedFreeDiskBytes, in bytes.
	FreeDisk int64
	// Custom is what resources:NAME ask for, in thousandths, by names in lower case.
	Custom map[string]int64
}

// ResourcePrefix begins the names of properties that ask for a resource which
// the server's operator declared.
const ResourcePrefix = "resources:"

const (
	propertyCPU    = "EstimatedCPU"
	propertyMemory = "EstimatedMemory"
	propertyUnits  = "EstimatedComputeUnits"

	// PropertyFreeDisk asks for room for what an action writes.
	PropertyFreeDisk = "EstimatedFreeDiskBytes"
	memoryValues     = `bytes such as "1e9", "500MB" or "1.5GiB"; k, M, G and T are powers of 1024`
)

// estimateProperties only say when an action may start, so they do not tell
// runners apart: their canonical value is that of an unset property.
func estimateProperties() []descriptor {
	return []descriptor{
		{PropertyDoc: PropertyDoc{
			Name: propertyCPU, Values: `cores such as "2" or "0.5", or thousandths such as "500m"`, Default: "`1`",
			Meaning: "CPUs that the action uses; it starts when so many are free.",
		}, keyless: true, parse: func(p *Platform, v string) (string, bool) { return parseCPU(&p.Estimates.MilliCPU, v) }},
		{PropertyDoc: PropertyDoc{
			Name: propertyMemory, Values: memoryValues, Default: "a modest share",
			Meaning: "Memory that the action uses; it starts when so much is free.",
		}, keyless: true, parse: func(p *Platform, v string) (string, bool) { return parseMemory(&p.Estimates.Memory, v) }},
		{PropertyDoc: PropertyDoc{
			Name: propertyUnits, Values: `a number such as "2" or "0.5"`,
			Meaning: "A unit is 1 CPU and 2.5 GB of memory. EstimatedCPU and EstimatedMemory prevail.",
		}, keyless: true, parse: func(p *Platform, v string) (string, bool) { return "", parseMilli(&p.Estimates.MilliUnits, v) }},
		{PropertyDoc: PropertyDoc{
			Name: PropertyFreeDisk, Values: memoryValues,
			Meaning: "Room that the action needs for what it writes, beside its inputs. If the file system of --data-dir has less when the action is to start, the action fails with RESOURCE_EXHAUSTED; the room is not reserved. /tmp is in memory.",
		}, keyless: true, parse: func(p *Platform, v string) (string, bool) { return parseMemory(&p.Estimates.FreeDisk, v) }},
		customResource("NAME"),
	}
}

// customResource describes the property that asks for a resource of that name.
func customResource(name string) descriptor {
	return descriptor{PropertyDoc: PropertyDoc{
		Name: ResourcePrefix + name, Values: `a number such as "1" or "0.5"`,
		Meaning: "Units of a resource that the server's operator declared with --resource NAME=N; the action starts when so many are free.",
	}, keyless: true, parse: func(p *Platform, v string) (string, bool) {
		var amount int64
		if !parseMilli(&amount, v) {
			return "", false
		}
		if amount > 0 {
			if p.Estimates.Custom == nil {
				p.Estimates.Custom = map[string]int64{}
			}
			p.Estimates.Custom[name] = amount
		}
		return "", true
	}}
}

// parseMilli takes a number that is not negative. Anything more than nothing is
// at least a thousandth.
func parseMilli(to *int64, value string) bool {
	f, err := strconv.ParseFloat(value, 64)
	if err != nil || !(f >= 0 && f <= math.MaxInt32) {
		return false
	}
	*to = int64(math.Ceil(f * 1000))
	return true
}

func parseCPU(to *int64, value string) (string, bool) {
	milli, ok := strings.CutSuffix(value, "m")
	if !ok {
		return "", parseMilli(to, value)
	}
	n, err := strconv.ParseInt(milli, 10, 32)
	*to = n
	return "", err == nil && n >= 0
}

func parseMemory(to *int64, value string) (string, bool) {
	f, err := strconv.ParseFloat(value, 64)
	if err != nil {
		n, err := units.RAMInBytes(value)
		*to = n
		return "", err == nil && n >= 0
	}
	*to = int64(f)
	return "", f >= 0 && f <= 1<<62
}
