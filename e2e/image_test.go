package e2e_test

import (
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// checkImage builds deploy/Containerfile with the package, on a Debian that comes from no
// registry, starts it as the file says, and runs actions in it: containers in a container.
func checkImage(t *testing.T, deb string) {
	t.Helper()
	name := fmt.Sprintf("hearth-e2e-image-%d", os.Getpid())
	base, image := "localhost/"+name+"-base", "localhost/"+name
	address := fmt.Sprintf("127.215.%d.%d", os.Getpid()>>8&255, os.Getpid()&255|1)
	dir := shortTempDir(t)
	podman := podmanWithin(t, dir)
	buildImage(t, podman, base, image, deb)
	config := filepath.Join(dir, "hearth.yaml")
	writeFile(t, config, "serve:\n  data-dir: /var/lib/hearth\n  listen: 0.0.0.0:8980\n  console: 0.0.0.0:8981\n  allow-anonymous: true\n")
	for _, volume := range []string{"store", "images"} {
		if err := os.Mkdir(filepath.Join(dir, volume), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	podman("run", "--detach", "--name="+name, "--privileged", "--cgroupns=host", "--tmpfs=/run",
		"--volume="+filepath.Join(dir, "store")+":/var/lib/hearth", "--volume="+filepath.Join(dir, "images")+":/var/lib/containers", "--volume="+config+":/etc/hearth/hearth.yaml:ro",
		"--publish="+address+":8980:8980", "--publish="+address+":8981:8981", image)
	t.Cleanup(func() { podman("rm", "--force", "--volumes", name) })
	waitFor(t, "the console to answer", func() bool {
		resp, err := http.Get("http://" + address + ":8981/healthz")
		return err == nil && errors.Join(resp.Body.Close()) == nil && resp.StatusCode == http.StatusOK
	})
	if said := podman("exec", name, "hearth", "doctor"); !strings.Contains(said, "image host") || strings.Contains(said, "PROBLEM") {
		t.Errorf("hearth doctor: %s", said)
	}
	c := newCaller(t, &hearth{bazelrc: "grpc://" + address + ":8980\n"})
	root := c.tree(map[string]string{"file": "an input\n"})
	const script = "cat file; grep -c Debian /etc/os-release > out"
	for _, props := range [][]string{{"recycle-runner"}, {"recycle-runner"}, {"recycle-runner", "dockerRunAsRoot"}} {
		if printed, resp := c.run(root, props, script, "out"); printed != "an input\n" || len(resp.GetResult().GetOutputFiles()) != 1 {
			t.Errorf("%q: the action printed %q: %v", props, printed, resp)
		}
	}
	podman("stop", "--time=60", name)
	log := podman("logs", name)
	if exit := strings.TrimSpace(podman("inspect", "--format={{.State.ExitCode}}", name)); exit != "0" || !strings.Contains(log, "draining") {
		t.Errorf("it ended with %s:\n%s", exit, log)
	}
	if left := mountsOf(t, dir); left != "" {
		t.Errorf("it left mounts:\n%s", left)
	}
}

// buildImage builds the image, without a network: the base has the packages that it wants.
// What only Bazel and compilers need is left out of it.
func buildImage(t *testing.T, podman func(...string) string, base, image, deb string) {
	t.Helper()
	const imports = `tar -C "$1" --exclude=./usr/lib/jvm --exclude=./usr/lib/gcc --exclude=./usr/share/java --exclude=./usr/share/bazel --exclude=./usr/share/maven-repo -c . | podman import --quiet - "$2"`
	out, err := exec.CommandContext(t.Context(), "sh", "-c", imports, "sh", debianRoot(t, "systemd", ""), base).CombinedOutput()
	if err != nil {
		t.Fatalf("podman import: %v: %s", err, out)
	}
	t.Cleanup(func() { podman("rmi", base) })
	where := shortTempDir(t)
	text, err := os.ReadFile(deb)
	if err != nil {
		t.Fatal(err)
	}
	writeFile(t, filepath.Join(where, "dist", filepath.Base(deb)), string(text))
	podman("build", "--quiet", "--layers=false", "--network=none", "--build-arg=BASE="+base, "--file=../deploy/Containerfile", "--tag="+image, where)
	t.Cleanup(func() { podman("rmi", image) })
}
