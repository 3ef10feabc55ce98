package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// writeWorkspace writes a Bazel workspace: a C++ program of many libraries, each of
// which calls the one before and includes these headers of the standard library beside
// those that it needs, and genrules that take no time.
func writeWorkspace(dir string, libraries, genrules int, headers []string) error {
	files := map[string]string{"WORKSPACE": "", "MODULE.bazel": ""}
	build := &strings.Builder{}
	var includes string
	for _, header := range headers {
		includes += "#include <" + header + ">\n"
	}
	before, value := "string", `std::string("end")` // of the standard library, at the beginning
	for i := range libraries {
		name := fmt.Sprintf("lib%d", i)
		files[name+".h"] = fmt.Sprintf("#pragma once\n#include <string>\nstd::string %s();\n", name)
		files[name+".cc"] = fmt.Sprintf(library, includes, before, name, i, i, value)
		deps := ""
		if i > 0 {
			deps = fmt.Sprintf(`":lib%d"`, i-1)
		}
		fmt.Fprintf(build, "cc_library(name = %q, srcs = [%q, \"round.h\"], hdrs = [%q], deps = [%s])\n", name, name+".cc", name+".h", deps)
		before, value = name+".h", name+"()"
	}
	files["main.cc"] = fmt.Sprintf("#include \"%s\"\n#include \"round.h\"\n#include <iostream>\nint main() { std::cout << %s << std::endl; }\n", before, value)
	fmt.Fprintf(build, "cc_binary(name = \"main\", srcs = [\"main.cc\", \"round.h\"], deps = [\":lib%d\"])\n", libraries-1)
	for i := range genrules {
		fmt.Fprintf(build, "genrule(name = \"short%d\", srcs = [\"round.h\"], outs = [\"short%d.txt\"], cmd = \"cat $< > $@\")\n", i, i)
	}
	files["BUILD.bazel"] = build.String()
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	for name, text := range files {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			return err
		}
	}
	return nil
}

// writeRound makes all actions of a workspace new ones, with other results.
func writeRound(dir, round string) error {
	return os.WriteFile(filepath.Join(dir, "round.h"), []byte(fmt.Sprintf("#define HEARTH_ROUND %q\n", round)), 0o644)
}

// library is a source file: more headers of the standard library, the header of the
// library before, the function's name, two numbers, and what it calls.
const library = `%s#include <map>
#include <string>
#include <vector>
#include "%s"
#include "round.h"
std::string %s() {
  std::map<int, std::string> m{{%d, "x"}};
  return m[%d] + HEARTH_ROUND + %s;
}
`
