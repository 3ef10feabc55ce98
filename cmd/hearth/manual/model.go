package manual

import (
	"strings"

	"github.com/alecthomas/kong"
)

// commands are the node and all below it that a person may use, in their order.
func commands(node *kong.Node) []*kong.Node {
	if node.Hidden {
		return nil
	}
	all := []*kong.Node{node}
	for _, child := range node.Children {
		all = append(all, commands(child)...)
	}
	return all
}

// name is how the command is called, from the program's name on.
func name(node *kong.Node) string {
	if node.Parent == nil {
		return node.Name
	}
	return name(node.Parent) + " " + node.Name
}

// usage is the command with its arguments.
func usage(node *kong.Node) string {
	words := []string{name(node)}
	if !node.Leaf() && node.DefaultCmd == nil {
		words = append(words, "COMMAND")
	}
	for _, p := range node.Positional {
		words = append(words, p.Summary())
	}
	return strings.Join(words, " ")
}

// flags are those that the command itself has.
func flags(node *kong.Node) []*kong.Flag {
	var own []*kong.Flag
	for _, flag := range node.Flags {
		if !flag.Hidden && flag.Name != "help" {
			own = append(own, flag)
		}
	}
	return own
}

// values says what the flag may be set to.
func values(flag *kong.Flag) string {
	switch {
	case flag.IsBool():
		return ""
	case flag.Enum != "":
		return strings.Join(flag.EnumSlice(), "|")
	case flag.PlaceHolder != "":
		return flag.PlaceHolder
	}
	switch t := flag.Target.Type().String(); {
	case t == "time.Duration":
		return "DURATION"
	case strings.HasSuffix(t, "bytesFlag"):
		return "SIZE"
	case strings.HasPrefix(t, "int"), strings.HasPrefix(t, "float"):
		return "N"
	case flag.IsMap():
		return "NAME=VALUE"
	}
	return "VALUE"
}
