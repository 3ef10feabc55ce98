// Command hostile is an action that means harm. The tests of package e2e run it
// in runners, most of it as nobody and as root, and look for what came of it:
//
//	hostile confined      tries what must be impossible
//	hostile server ...    attacks the exec server
//	hostile inputs        scribbles on the input root
//	hostile leave         leaves what it can behind
//	hostile tree          leaves an input root that is hard to remove
//	hostile swap          goes on to replace outputs while they are collected
//	hostile bomb          makes processes until it may not
//	hostile socket PATH   makes a socket
//	hostile look          prints all that an action can tell of its surroundings
//
// What had to fail and did not is printed with the word POSSIBLE.
package main

import (
	"fmt"
	"os"
)

func main() {
	if len(os.Args) < 2 {
		fmt.Fprintln(os.Stderr, "say which harm to do")
		os.Exit(2)
	}
	name, args := os.Args[1], os.Args[2:]
	harm, ok := map[string]func(args []string) error{
		"confined": confined, "server": server, "inputs": inputs, "leave": leave,
		"tree": tree, "swap": swap, "swapping": swapping, "bomb": bomb, "look": look, "wait": wait, "socket": socket,
	}[name]
	if !ok {
		fmt.Fprintf(os.Stderr, "there is no harm %q\n", name)
		os.Exit(2)
	}
	if err := harm(args); err != nil {
		fmt.Fprintf(os.Stderr, "%s: %v\n", name, err)
		os.Exit(1)
	}
}

// refused tells what came of something that must fail.
func refused(what string, err error) {
	if err == nil {
		fmt.Printf("%s: POSSIBLE\n", what)
		return
	}
	fmt.Printf("%s: %v\n", what, err)
}
