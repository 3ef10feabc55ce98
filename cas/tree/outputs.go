package tree

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	repb "github.com/bazelbuild/remote-apis/build/bazel/remote/execution/v2"

	"github.com/hearth-build/hearth/cas"
)

// Outputs is what a Command declares, checked by ParseOutputs. The caller may
// change the exported fields.
type Outputs struct {
	// Limits of what is captured.
	Limits OutputLimits
	// NoAbsoluteSymlinks refuses symbolic links with absolute targets, as
	// SymlinkAbsolutePathStrategy DISALLOWED wants it. Else targets are returned
	// as they are; none is rewritten.
	NoAbsoluteSymlinks bool

	workingDirectory string
	function         cas.Function
	declared         []output
	directories      bool // Directories are wanted on their own, besides the Tree
	mtime, unixMode  bool // node properties to return
}

// OutputLimits bound what one action may return. Zero fields mean those of
// DefaultOutputLimits.
type OutputLimits struct {
	// MaxFileBytes bounds one file, by its apparent size; no more than
	// MaxTotalBytes counts.
	MaxFileBytes int64
	// MaxTotalBytes bounds all files together.
	MaxTotalBytes int64
	// MaxNodes bounds files, directories and symbolic links together.
	MaxNodes int
}

// DefaultOutputLimits is above what builds make, and below what would keep a
// host busy for hours.
func DefaultOutputLimits() OutputLimits {
	return OutputLimits{MaxFileBytes: 32 << 30, MaxTotalBytes: 64 << 30, MaxNodes: 1_000_000}
}

func (l OutputLimits) withDefaults() OutputLimits {
	d := DefaultOutputLimits()
	l.MaxTotalBytes = cmp.Or(l.MaxTotalBytes, d.MaxTotalBytes)
	l.MaxFileBytes = min(cmp.Or(l.MaxFileBytes, d.MaxFileBytes), l.MaxTotalBytes)
	l.MaxNodes = cmp.Or(l.MaxNodes, d.MaxNodes)
	return l
}

// wanted is in which list an output was declared.
type wanted uint8

const (
	wantAny       wanted = iota // output_paths
	wantFile                    // output_files
	wantDirectory               // output_directories
)

// output is one declared output.
type output struct {
	path  string // as the client wrote it, and gets it back
	place string // from the input root, clean
	want  wanted
}

// WorkingDirectory returns the Command's working directory, relative to the
// input root and clean; "" is the input root.
func (o *Outputs) WorkingDirectory() string { return o.workingDirectory }

// ParseOutputs checks what a Command says about outputs and the working
// directory, as far as it can be known without a file system. Every error is an
// *InvalidError. The outputs will be digested with f.
func ParseOutputs(cmd *repb.Command, f cas.Function) (Outputs, error) {
	o := Outputs{function: f}
	var err error
	if o.workingDirectory, err = parseWorkingDirectory(cmd.GetWorkingDirectory()); err != nil {
		return Outputs{}, err
	}
	if len(cmd.GetOutputPaths()) > 0 { // then the legacy lists do not count: clients repeat themselves there
		err = o.declare(wantAny, cmd.GetOutputPaths())
	} else {
		err = o.declareLegacy(cmd)
	}
	if err != nil {
		return Outputs{}, err
	}
	if err := o.checkConflicts(); err != nil {
		return Outputs{}, err
	}
	if err := o.parseProperties(cmd.GetOutputNodeProperties()); err != nil {
		return Outputs{}, err
	}
	switch cmd.GetOutputDirectoryFormat() { // anything else is TREE_ONLY, by the API
	case repb.Command_DIRECTORY_ONLY, repb.Command_TREE_AND_DIRECTORY:
		o.directories = true
	}
	return o, nil
}

func (o *Outputs) declareLegacy(cmd *repb.Command) error {
	//nolint:staticcheck // Deprecated fields that Bazel before 7 relies on.
	files, directories := cmd.GetOutputFiles(), cmd.GetOutputDirectories()
	if err := o.declare(wantFile, files); err != nil {
		return err
	}
	return o.declare(wantDirectory, directories)
}

func (o *Outputs) declare(want wanted, paths []string) error {
	for _, p := range paths {
		place, err := outputPlace(o.workingDirectory, p, want)
		if err != nil {
			return err
		}
		o.declared = append(o.declared, output{path: p, place: place, want: want})
	}
	return nil
}

// checkConflicts refuses two outputs at one place, and a file that would have
// to be a directory too.
func (o *Outputs) checkConflicts() error {
	at := make(map[string]output, len(o.declared))
	for _, d := range o.declared {
		if _, ok := at[d.place]; ok {
			return invalidOutput(d.path, "is declared twice")
		}
		at[d.place] = d
	}
	for _, d := range o.declared {
		for p := d.place; p != ""; {
			p = parentOf(p)
			if above, ok := at[p]; ok && above.want == wantFile {
				return invalidOutput(above.path, "is declared as a file, and as the parent of "+quote(d.path))
			}
		}
	}
	return nil
}

func (o *Outputs) parseProperties(keys []string) error {
	for _, k := range keys {
		switch k {
		case propertyMtime:
			o.mtime = true
		case propertyUnixMode:
			o.unixMode = true
		default:
			return &InvalidError{
				Subject: "output_node_properties",
				Reason:  fmt.Sprintf("names %s; only %s are known here", quote(k), strings.Join(NodeProperties(), " and ")),
			}
		}
	}
	return nil
}

// parents returns the directories in which outputs are, each once, parents
// first; without the input root.
func (o *Outputs) parents() []string {
	seen := map[string]bool{"": true}
	var all []string
	for _, d := range o.declared {
		for p := parentOf(d.place); !seen[p]; p = parentOf(p) {
			seen[p] = true
			all = append(all, p)
		}
	}
	slices.Sort(all)
	return all
}

func parentOf(place string) string {
	return place[:max(0, strings.LastIndexByte(place, '/'))]
}
