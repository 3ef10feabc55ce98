package e2e_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

// javaTargets is how many Java libraries are built; JAVA_TARGETS says so else.
func javaTargets(t *testing.T) int {
	t.Helper()
	text, ok := os.LookupEnv("JAVA_TARGETS")
	if !ok {
		return 6
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < 1 {
		t.Fatalf("JAVA_TARGETS=%s: say how many libraries to build", text)
	}
	return n
}

// TestPersistentWorkers builds Java libraries with Bazel's flag for persistent workers
// and without. Bazel's own Java rules cannot be had without a network, so that the rule
// and the worker are the test's. REAPI K22, G12
func TestPersistentWorkers(t *testing.T) {
	const slots = 2
	h := startHearthWith(t, sidRoot(t), fmt.Sprintf("--slots=%d", slots))
	c := newBazel7(t, h)
	n := javaTargets(t)
	pkg := javaPackage(t, n)
	c.addPackage(t, "java", pkg)
	// The property is there in both: when it changes, Bazel runs all actions again.
	build := []string{"build", "--noremote_accept_cached", "--remote_default_exec_properties=persistent-workers=true", "//java/..."}
	workers := append([]string{build[0], "--experimental_remote_mark_tool_inputs"}, build[1:]...)
	c.want(t, 0, build) // so that Bazel and the worker's own code are there

	// edit makes all libraries be compiled again.
	round := 0
	edit := func() {
		t.Helper()
		round++
		edited := map[string]string{}
		for name, text := range pkg {
			if strings.HasPrefix(name, "Lib") {
				edited[name] = fmt.Sprintf("%s // %d", text, round)
			}
		}
		c.addPackage(t, "java", edited)
	}
	served := func() map[string]int {
		t.Helper()
		counts := map[string]int{}
		for i := range n {
			who, count, _ := strings.Cut(strings.TrimSpace(c.read(t, fmt.Sprintf("bazel-bin/java/lib%d.served", i))), " request ")
			counts[who]++
			if count == "1" {
				counts["started"]++
			}
		}
		return counts
	}
	edit()
	with := c.want(t, 0, workers)
	if got := served(); got["worker"] != n || got["started"] == 0 || got["started"] > slots {
		t.Errorf("with workers: %v", got)
	}
	edit()
	without := c.want(t, 0, build)
	if got := served(); got["command"] != n {
		t.Errorf("without workers: %v", got)
	}
	edit()
	again := c.want(t, 0, workers)
	if got := served(); got["worker"] != n || got["started"] != 0 {
		t.Errorf("with the workers of before: %v", got)
	}
	t.Logf("%d Java libraries: %v with workers, %v without, %v with workers that run already", n, with.elapsed, without.elapsed, again.elapsed)

	// What does not compile is told as by a command, and the worker goes on.
	c.addPackage(t, "java/broken", map[string]string{
		"BUILD.bazel": `load("//java:javac.bzl", "java_lib")` + "\n" + `java_lib(name = "broken", srcs = ["Broken.java"])`,
		"Broken.java": "public class Broken { Missing m; }",
	})
	broken := append(workers[:len(workers)-1:len(workers)-1], "//java/broken")
	c.want(t, 1, broken, "cannot find symbol", "Missing")
}

// javaPackage is a package with the rule, the worker, and so many libraries.
func javaPackage(t *testing.T, libraries int) map[string]string {
	t.Helper()
	pkg := map[string]string{"BUILD.bazel": `load(":javac.bzl", "java_lib", "javac_worker")
package(default_visibility = ["//visibility:public"])
javac_worker(name = "worker", src = "JavacWorker.java", tags = ["manual"])
[java_lib(name = "lib%d" % i, srcs = ["Lib%d.java" % i]) for i in range(` + strconv.Itoa(libraries) + ")]\n"}
	for _, name := range []string{"javac.bzl", "JavacWorker.java"} {
		data, err := os.ReadFile(filepath.Join("testdata/javac", name))
		if err != nil {
			t.Fatal(err)
		}
		pkg[name] = string(data)
	}
	for i := range libraries {
		pkg[fmt.Sprintf("Lib%d.java", i)] = fmt.Sprintf(`
import java.util.*;
import java.util.stream.*;
public class Lib%d {
  record Item(String name, int size) {}
  public static Map<String, Integer> sizes(List<Item> items) {
    return items.stream().collect(Collectors.groupingBy(Item::name, TreeMap::new, Collectors.summingInt(Item::size)));
  }
}`, i)
	}
	return pkg
}
