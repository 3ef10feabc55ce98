package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	appsv1 "github.com/containers/podman/v5/pkg/k8s.io/api/apps/v1"
	corev1 "github.com/containers/podman/v5/pkg/k8s.io/api/core/v1"
	metav1 "github.com/containers/podman/v5/pkg/k8s.io/apimachinery/pkg/apis/meta/v1"
	"go.yaml.in/yaml/v3"
)

// deployed is a pod in a file of deploy/.
type deployed struct {
	file string
	spec corev1.PodSpec
}

// deployments are the pods in all files, which must be what Kubernetes calls them, with
// no field that it does not have.
func deployments(t *testing.T) []deployed {
	t.Helper()
	files, err := filepath.Glob("../../deploy/*/*.yaml")
	if err != nil {
		t.Fatal(err)
	}
	var found []deployed
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for documents := yaml.NewDecoder(bytes.NewReader(text)); ; {
			var document map[string]any
			if err := documents.Decode(&document); errors.Is(err, io.EOF) {
				break
			} else if err != nil {
				t.Fatalf("%s: %v", file, err)
			}
			switch kind := document["kind"]; kind {
			case "Pod":
				var pod corev1.Pod
				strictly(t, file, document, &pod)
				found = append(found, deployed{file, pod.Spec})
			case "DaemonSet":
				var set appsv1.DaemonSet
				strictly(t, file, document, &set)
				if want := set.Spec.Selector.MatchLabels; len(want) == 0 || set.Spec.Template.Labels["app"] != want["app"] {
					t.Errorf("%s: the pods have not the labels by which they are found: %v", file, want)
				}
				found = append(found, deployed{file, set.Spec.Template.Spec})
			case "Namespace":
				var namespace struct { // which podman's copy of the types does not have
					metav1.TypeMeta   `json:",inline"`
					metav1.ObjectMeta `json:"metadata"`
				}
				strictly(t, file, document, &namespace)
			default:
				t.Errorf("%s has a %v, which nobody looks at", file, kind)
			}
		}
	}
	return found
}

func strictly(t *testing.T, file string, document map[string]any, into any) {
	t.Helper()
	text, err := json.Marshal(document)
	if err != nil {
		t.Fatal(err)
	}
	decoder := json.NewDecoder(bytes.NewReader(text))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(into); err != nil {
		t.Errorf("%s: %v", file, err)
	}
}

// What is deployed fits hearth: its flags, the ports at which it listens, where probes
// find it, the mounts that it needs, and the time that it takes to stop.
func TestDeployments(t *testing.T) {
	hearths := 0
	for _, d := range deployments(t) {
		for _, c := range d.spec.Containers {
			checkMounts(t, d, c)
			if c.Name == "hearth" {
				hearths++
				checkHearth(t, d, c)
			}
		}
	}
	if hearths != 3 {
		t.Errorf("hearth is deployed %d times, want by deploy/kube, deploy/cluster and deploy/kubernetes", hearths)
	}
}

func checkMounts(t *testing.T, d deployed, c corev1.Container) {
	t.Helper()
	for _, mount := range c.VolumeMounts {
		if !slices.ContainsFunc(d.spec.Volumes, func(v corev1.Volume) bool { return v.Name == mount.Name }) {
			t.Errorf("%s: %s mounts %s, which there is not", d.file, c.Name, mount.Name)
		}
	}
}

func checkHearth(t *testing.T, d deployed, c corev1.Container) {
	t.Helper()
	var parsed cli
	parser, _, err := newParser(&parsed)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := parser.Parse(c.Args); err != nil {
		t.Fatalf("%s: %v", d.file, err)
	}
	drain, console, listen := parsed.Serve.DrainTimeout, parsed.Serve.Console, parsed.Serve.Listening.Listen
	dataDir, tls := parsed.Serve.DataDir, parsed.Serve.Listening.TLSCert != ""
	if c.Args[0] == "worker" {
		drain, console, listen = parsed.Worker.DrainTimeout, parsed.Worker.Console, ""
		dataDir, tls = parsed.Worker.DataDir, parsed.Worker.TLSCert != ""
	}
	// What comes after the drain: the scheduler is told, containers are removed.
	const afterwards = 15*time.Second + cleanUpTimeout
	if grace := d.spec.TerminationGracePeriodSeconds; grace == nil || time.Duration(*grace)*time.Second < drain+afterwards {
		t.Errorf("%s: hearth may take %v to stop, and has %v s", d.file, drain+afterwards, grace)
	}
	if c.SecurityContext == nil || c.SecurityContext.Privileged == nil || !*c.SecurityContext.Privileged {
		t.Errorf("%s: hearth is not privileged, and could not start containers", d.file)
	}
	for _, path := range []string{dataDir, "/var/lib/containers", "/run"} {
		if !slices.ContainsFunc(c.VolumeMounts, func(m corev1.VolumeMount) bool { return m.MountPath == path }) {
			t.Errorf("%s: %s is not a file system of its own", d.file, path)
		}
	}
	var ports []string
	for _, address := range []string{listen, console} {
		if _, port, err := net.SplitHostPort(address); err == nil {
			ports = append(ports, port)
		}
	}
	checkPorts(t, d, c, ports)
	checkProbes(t, d, c, tls)
}

// checkPorts: each port is one at which hearth listens, and each of those is there.
func checkPorts(t *testing.T, d deployed, c corev1.Container, ports []string) {
	t.Helper()
	var declared []string
	for _, p := range c.Ports {
		declared = append(declared, jsonOf(t, p.ContainerPort))
	}
	if slices.Sort(declared); !slices.Equal(declared, ports) {
		t.Errorf("%s: the ports are %q, hearth listens at %q", d.file, declared, ports)
	}
}

// checkProbes: they ask for the page that needs no credentials, at the console.
func checkProbes(t *testing.T, d deployed, c corev1.Container, tls bool) {
	t.Helper()
	for _, probe := range []*corev1.Probe{c.StartupProbe, c.ReadinessProbe, c.LivenessProbe} {
		if probe == nil {
			continue
		}
		get := probe.HTTPGet
		if get == nil || get.Path != "/healthz" || tls != (get.Scheme == "HTTPS") || jsonOf(t, get.Port) != `"console"` {
			t.Errorf("%s: a probe that nobody answers: %+v", d.file, get)
		}
	}
	if strings.Contains(d.file, "kubernetes") != (c.LivenessProbe != nil) {
		t.Errorf("%s: podman runs probes by programs that the image has not, Kubernetes does without", d.file)
	}
}

func jsonOf(t *testing.T, v any) string {
	t.Helper()
	text, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}
