package runners_test

import (
	"errors"
	"fmt"
	"reflect"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/hearth-build/hearth/runners"
)

// REAPI F39: what is known is understood, and properties of any other name pass.
func TestParsePlatform(t *testing.T) {
	long := "docker://registry.example:5000/a/b@sha256:0123"
	cases := map[string]struct {
		props, defaults, overrides []string
		want                       runners.Platform // but Properties; a zero Image is the host, a zero Network off
		words                      string           // Properties
	}{
		"nothing":               {words: "container-image=host"},
		"host":                  {props: []string{"container-image=host"}, words: "container-image=host"},
		"image":                 {props: []string{"Container-Image= " + long + " "}, want: runners.Platform{Image: runners.ImageRef{Name: long[9:]}}, words: "container-image=" + long},
		"none is the default":   {props: []string{"container-image=None"}, defaults: []string{"container-image=docker://d"}, want: runners.Platform{Image: runners.ImageRef{Name: "d"}}, words: "container-image=docker://d"},
		"empty is the default":  {props: []string{"container-image=", "x="}, defaults: []string{"container-image=docker://d", "x=1"}, want: runners.Platform{Image: runners.ImageRef{Name: "d"}}, words: "container-image=docker://d x=1"},
		"headers prevail":       {props: []string{"network=bridge"}, defaults: []string{"network=bridge"}, overrides: []string{"dockerNETWORK=none"}, words: "container-image=host"},
		"the action's prevail":  {props: []string{"dockerNetwork=standard"}, defaults: []string{"network=off"}, want: runners.Platform{Network: runners.NetworkBridge}, words: "container-image=host network=bridge"},
		"recycle":               {props: []string{"RECYCLE-RUNNER=True"}, want: runners.Platform{Recycle: true}, words: "container-image=host recycle-runner=true"},
		"dockerReuse":           {props: []string{"dockerReuse=true"}, want: runners.Platform{Recycle: true}, words: "container-image=host recycle-runner=true"},
		"only true is true":     {props: []string{"recycle-runner=1", "dockerRunAsRoot=yes"}, words: "container-image=host"},
		"recycling key":         {props: []string{"runner-recycling-key=k"}, want: runners.Platform{RecyclingKey: "k"}, words: "container-image=host runner-recycling-key=k"},
		"root":                  {props: []string{"dockerRunAsRoot=TRUE"}, want: runners.Platform{RunAsRoot: true}, words: "container-image=host dockerrunasroot=true"},
		"root by name":          {props: []string{"dockerUser=root"}, want: runners.Platform{RunAsRoot: true}, words: "container-image=host dockeruser=root"},
		"root by number":        {props: []string{"dockerUser=0"}, want: runners.Platform{RunAsRoot: true}, words: "container-image=host dockeruser=root"},
		"root and its group":    {props: []string{"dockerUser=0:0"}, want: runners.Platform{RunAsRoot: true}, words: "container-image=host dockeruser=root"},
		"nobody's group":        {props: []string{"dockerUser=65534:65534"}, words: "container-image=host"},
		"root is forced":        {props: []string{"dockerUser=nobody", "dockerRunAsRoot=true"}, want: runners.Platform{RunAsRoot: true}, words: "container-image=host dockerrunasroot=true"},
		"nobody":                {props: []string{"dockerUser=65534"}, words: "container-image=host"},
		"durations":             {props: []string{"default-timeout=90s", "termination-grace-period=1500ms"}, want: runners.Platform{Timeout: 90 * time.Second, Grace: 1500 * time.Millisecond}, words: "container-image=host default-timeout=1m30s termination-grace-period=1.5s"},
		"no grace":              {props: []string{"termination-grace-period=0s"}, words: "container-image=host"},
		"this host":             {props: []string{"OSFamily=Linux", "Arch=" + runtime.GOARCH, "Pool=default", "workload-isolation-type=podman"}, words: "container-image=host"},
		"pool":                  {props: []string{"Pool=Big"}, words: "container-image=host pool=big"},
		"others are kept":       {props: []string{"b=2", "A=1", "cores= 4 "}, words: "a=1 b=2 container-image=host cores=4"},
		"several values":        {props: []string{"a=2", "a=1", "A=2"}, words: "a=1 a=2 container-image=host"},
		"the same twice":        {props: []string{"network=bridge", "dockerNetwork=bridge"}, want: runners.Platform{Network: runners.NetworkBridge}, words: "container-image=host network=bridge"},
		"credentials":           {props: []string{"container-registry-username=u"}, overrides: []string{"container-registry-password=hunter2"}, want: runners.Platform{Image: runners.ImageRef{Name: "host", Username: "u", Password: "hunter2"}}, words: "container-image=host container-registry-username=u"},
		"what may be a secret":  {props: []string{"my-token=hunter2", "x-password=hunter2", "secret-env=hunter2"}, words: "container-image=host"},
		"registry with a port":  {props: []string{"container-image=docker://localhost:5000/host"}, want: runners.Platform{Image: runners.ImageRef{Name: "localhost:5000/host"}}, words: "container-image=docker://localhost:5000/host"},
		"estimates":             {props: []string{"EstimatedCPU=1.5", "estimatedmemory=2GB", "EstimatedComputeUnits=0.25"}, want: runners.Platform{Estimates: runners.Estimates{MilliCPU: 1500, Memory: 2 << 30, MilliUnits: 250}}, words: "container-image=host"},
		"milli-CPUs":            {props: []string{"EstimatedCPU=500m"}, want: runners.Platform{Estimates: runners.Estimates{MilliCPU: 500}}, words: "container-image=host"},
		"a sliver":              {props: []string{"EstimatedCPU=0.0001", "EstimatedMemory=1e9"}, want: runners.Platform{Estimates: runners.Estimates{MilliCPU: 1, Memory: 1e9}}, words: "container-image=host"},
		"no estimates":          {props: []string{"EstimatedCPU=0", "EstimatedMemory=0", "EstimatedComputeUnits=0", "resources:gpu=0"}, words: "container-image=host"},
		"memory in KiB":         {props: []string{"EstimatedMemory=1.5 KiB"}, want: runners.Platform{Estimates: runners.Estimates{Memory: 1536}}, words: "container-image=host"},
		"custom resources":      {props: []string{"resources:GPU=2", "Resources:licence=0.5"}, want: runners.Platform{Estimates: runners.Estimates{Custom: map[string]int64{"gpu": 2000, "licence": 500}}}, words: "container-image=host"},
		"room":                  {props: []string{"EstimatedFreeDiskBytes=20GB"}, want: runners.Platform{Estimates: runners.Estimates{FreeDisk: 20 << 30}}, words: "container-image=host"},
		"exit codes":            {props: []string{"runner-crashed-exit-codes= 137,3 , 3,", "Transient-Error-Exit-Codes=75"}, want: runners.Platform{CrashedCodes: []int32{3, 137}, TransientCodes: []int32{75}}, words: "container-image=host runner-crashed-exit-codes=3,137 transient-error-exit-codes=75"},
		"extra arguments":       {props: []string{"extra-args=--verbose, -j 2"}, want: runners.Platform{ExtraArgs: []string{"--verbose", "-j 2"}}, words: "container-image=host extra-args=--verbose,-j 2"},
		"variables":             {props: []string{"env-overrides=A=1=1, B=hunter2,C="}, want: runners.Platform{Env: runners.Variables{"A=1=1", "B=hunter2", "C="}}, words: "container-image=host"},
		"variables in base64":   {props: []string{"env-overrides=A=1", "env-overrides-base64=QT14LHk=,Qj0="}, want: runners.Platform{Env: runners.Variables{"A=1", "A=x,y", "B="}}, words: "container-image=host"},
		"secret variables":      {props: []string{"env-overrides=A=1"}, overrides: []string{"secret-env-overrides=A=hunter2", "secret-env-overrides-base64=Qj1odW50ZXIy"}, want: runners.Platform{Env: runners.Variables{"A=1", "A=hunter2", "B=hunter2"}}, words: "container-image=host"},
		"the host's network":    {props: []string{"dockerNetwork=HOST"}, want: runners.Platform{Network: runners.NetworkHost}, words: "container-image=host network=host"},
		"a network outside":     {props: []string{"network=external"}, want: runners.Platform{Network: runners.NetworkBridge}, words: "container-image=host network=bridge"},
		"switches that are off": {props: []string{"dockerPrivileged=false", "dockerSiblingContainers=no", "include-secrets=False", "dockerAddCapabilities=", "persistent-volumes="}, words: "container-image=host"},
		"shared memory":         {props: []string{"dockerShmSize=1g"}, words: "container-image=host"},
		"a resource has a name": {props: []string{"resources:=1"}, words: "container-image=host resources:=1"},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			got, err := runners.ParsePlatform(props(c.props...), props(c.defaults...), props(c.overrides...))
			if err != nil {
				t.Fatal(err)
			}
			if c.want.Image.Name == "" {
				c.want.Image.Name = runners.HostImage
			}
			if c.want.Network == "" {
				c.want.Network = runners.NetworkOff
			}
			var words []string
			for _, p := range got.Properties {
				words = append(words, p.Name+"="+p.Value)
			}
			if w := strings.Join(words, " "); w != c.words {
				t.Errorf("properties %q, want %q", w, c.words)
			}
			c.want.Properties = got.Properties
			if !samePlatform(got, c.want) {
				t.Errorf("got %+v, want %+v", got, c.want)
			}
			for _, shown := range []string{fmt.Sprint(got.Image), fmt.Sprintf("%+v", got.Image), fmt.Sprintf("%#v", got.Image), fmt.Sprintf("%+v", got)} {
				if strings.Contains(shown, "hunter2") {
					t.Errorf("a secret is shown: %s", shown)
				}
			}
		})
	}
}

// samePlatform compares the exported fields.
func samePlatform(a, b runners.Platform) bool {
	va, vb := reflect.ValueOf(a), reflect.ValueOf(b)
	for i := range va.NumField() {
		if va.Type().Field(i).IsExported() && !reflect.DeepEqual(va.Field(i).Interface(), vb.Field(i).Interface()) {
			return false
		}
	}
	return true
}

func TestParsePlatformRefuses(t *testing.T) {
	cases := map[string]struct {
		props []string
		want  []string // parts of the error
	}{
		"image without scheme": {[]string{"container-image=debian:12"}, []string{`container-image is "debian:12"`, "docker://REFERENCE", `"host"`}},
		"empty reference":      {[]string{"container-image=docker://"}, []string{"docker://REFERENCE"}},
		"blank in reference":   {[]string{"container-image=docker://a b"}, []string{"docker://REFERENCE"}},
		"an image called host": {[]string{"container-image=docker://host"}, []string{"docker://REFERENCE"}},
		"isolation":            {[]string{"workload-isolation-type=firecracker"}, []string{`"firecracker"`, `"podman"`}},
		"system":               {[]string{"OSFamily=darwin"}, []string{`OSFamily is "darwin"`, `"linux"`}},
		"architecture":         {[]string{"Arch=pdp11"}, []string{`Arch is "pdp11"`, runtime.GOARCH}},
		"all that differs":     {[]string{"OSFamily=darwin", "Arch=pdp11", "workload-isolation-type=firecracker"}, []string{"no runner can take this action", "nearest", `OSFamily is "darwin"`, `Arch is "pdp11"`, `"firecracker"`, `"linux"`, `"podman"`}},
		"CPUs":                 {[]string{"EstimatedCPU=many"}, []string{`EstimatedCPU is "many"`, `"500m"`}},
		"negative CPUs":        {[]string{"EstimatedCPU=-500m"}, []string{`"-500m"`}},
		"CPUs without end":     {[]string{"EstimatedCPU=+Inf"}, []string{`"+Inf"`}},
		"no number":            {[]string{"EstimatedComputeUnits=NaN"}, []string{`"NaN"`}},
		"memory":               {[]string{"EstimatedMemory=4 elephants"}, []string{`"4 elephants"`, `"1.5GiB"`}},
		"negative memory":      {[]string{"EstimatedMemory=-1"}, []string{`"-1"`}},
		"custom resource":      {[]string{"resources:gpu=yes"}, []string{`resources:gpu is "yes"`}},
		"user":                 {[]string{"dockerUser=daemon"}, []string{`"daemon"`, `"root"`, `"nobody"`}},
		"a group":              {[]string{"dockerUser=1000:1000"}, []string{`"1000:1000"`, `"root"`, `"nobody"`}},
		"network":              {[]string{"dockerNetwork=lan"}, []string{`dockerNetwork is "lan"`, `"bridge"`, `"off"`}},
		"timeout":              {[]string{"default-timeout=90"}, []string{`"90"`, `such as "90s"`}},
		"negative timeout":     {[]string{"default-timeout=-1s"}, []string{`"-1s"`}},
		"no timeout":           {[]string{"default-timeout=0s"}, []string{`"0s"`}},
		"grace":                {[]string{"termination-grace-period=61s"}, []string{`"61s"`, "at most 1m0s"}},
		"two values":           {[]string{"network=off", "dockerNetwork=bridge"}, []string{"more than one value", `"bridge", "off"`}},
		"exit code 0":          {[]string{"runner-crashed-exit-codes=1,0"}, []string{`"1,0"`, "from 1 to 255"}},
		"exit code 256":        {[]string{"transient-error-exit-codes=256"}, []string{`"256"`, "from 1 to 255"}},
		"no exit code":         {[]string{"transient-error-exit-codes=1;2"}, []string{`"1;2"`, "commas"}},
		"no variable":          {[]string{"env-overrides=A=1,hunter2"}, []string{"env-overrides", "(hidden)", "NAME=VALUE"}},
		"variable of no name":  {[]string{"secret-env-overrides==hunter2"}, []string{"secret-env-overrides", "(hidden)"}},
		"no base64":            {[]string{"env-overrides-base64=A=hunter2"}, []string{"(hidden)", "base64"}},
		"NUL in base64":        {[]string{"env-overrides-base64=QT0A"}, []string{"(hidden)"}},
		"room":                 {[]string{"EstimatedFreeDiskBytes=much"}, []string{`"much"`, `"1.5GiB"`}},
		"privileges":           {[]string{"dockerPrivileged=True"}, []string{`dockerPrivileged is "True"`, "not supported"}},
		"siblings":             {[]string{"dockerSiblingContainers=true"}, []string{"dockerSiblingContainers", "container engine"}},
		"capabilities":         {[]string{"dockerAddCapabilities=SYS_ADMIN"}, []string{`dockerAddCapabilities is "SYS_ADMIN"`, "not supported: leave it out", "without capabilities"}},
		"runtime":              {[]string{"dockerRuntime=runsc"}, []string{"dockerRuntime", "chooses the runtime"}},
		"limits":               {[]string{"dockerUlimits=nofile=10"}, []string{"dockerUlimits", "the same for all"}},
		"volumes":              {[]string{"persistent-volumes=tmp:/tmp/x"}, []string{"persistent-volumes", "recycled runner"}},
		"much shared memory":   {[]string{"dockerShmSize=2g"}, []string{`"2g"`, "at most 1g"}},
		"secrets":              {[]string{"include-secrets=true"}, []string{"include-secrets", "secret-env-overrides"}},
		"no name":              {[]string{" =x"}, []string{"no name"}},
		"NUL":                  {[]string{"a=b\x00c"}, []string{"NUL"}},
		"long":                 {[]string{"OSFamily=" + strings.Repeat("x", 5000)}, []string{"and 4800 bytes more"}},
		"two secrets":          {[]string{"container-registry-password=hunter2", "container-registry-password=hunter3"}, []string{"(hidden)"}},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			_, err := runners.ParsePlatform(props(c.props...), nil, nil)
			if !errors.Is(err, runners.ErrPlatform) {
				t.Fatalf("error %v", err)
			}
			for _, part := range c.want {
				if !strings.Contains(err.Error(), part) {
					t.Errorf("%q lacks %q", err, part)
				}
			}
			if strings.Contains(err.Error(), "hunter") {
				t.Errorf("a secret is told: %v", err)
			}
		})
	}
}

func TestPropertyDocs(t *testing.T) {
	seen := map[string]bool{}
	for _, d := range runners.PropertyDocs() {
		if d.Values == "" || d.Meaning == "" {
			t.Errorf("%s lacks a description", d.Name)
		}
		for _, name := range append(slices.Clone(d.Aliases), d.Name) {
			if lower := strings.ToLower(name); seen[lower] {
				t.Errorf("%s is there twice", name)
			} else {
				seen[lower] = true
			}
		}
	}
	for _, name := range []string{"container-image", "recycle-runner", "dockerreuse", "dockernetwork", "osfamily"} {
		if !seen[name] {
			t.Errorf("%s is not documented", name)
		}
	}
}

func FuzzParsePlatform(f *testing.F) {
	f.Add("container-image", "docker://a", "network", "bridge")
	f.Add("a", "1", "A", "2")
	f.Fuzz(func(t *testing.T, n1, v1, n2, v2 string) {
		sent := []runners.Property{{Name: n1, Value: v1}, {Name: n2, Value: v2}}
		p, err := runners.ParsePlatform(sent, nil, nil)
		if err != nil {
			if !errors.Is(err, runners.ErrPlatform) {
				t.Fatal(err)
			}
			return
		}
		// Its canonical form means the same, and the order does not matter.
		again, err := runners.ParsePlatform(p.Properties, nil, nil)
		if err != nil || !reflect.DeepEqual(again.Properties, p.Properties) {
			t.Fatalf("%v became %v: %v", p.Properties, again.Properties, err)
		}
		slices.Reverse(sent)
		if again, err = runners.ParsePlatform(sent, nil, nil); err != nil || !reflect.DeepEqual(again, p) {
			t.Fatalf("%+v is %+v the other way round: %v", p, again, err)
		}
	})
}
