package main

import (
	"fmt"
	"os"
	"strings"
)

// completionCmd is `hearth completion`.
type completionCmd struct {
	Shell   string `arg:"" enum:"bash,zsh,fish" help:"The shell: bash, zsh or fish."`
	Program string `help:"The program that the shell asks; default: this one." placeholder:"FILE"`
}

// Run prints what makes a shell ask this program for what may follow. It answers
// when the variable COMP_LINE is there.
func (c *completionCmd) Run() error {
	self := c.Program
	if self == "" {
		var err error
		if self, err = os.Executable(); err != nil {
			return err
		}
	}
	quoted := "'" + strings.ReplaceAll(self, "'", `'\''`) + "'"
	switch c.Shell {
	case "bash":
		fmt.Printf("# In ~/.bashrc: source <(hearth completion bash)\ncomplete -C %s hearth\n", quoted)
	case "zsh":
		fmt.Printf("# In ~/.zshrc: source <(hearth completion zsh)\nautoload -U +X compinit bashcompinit && compinit -u && bashcompinit\ncomplete -o nospace -C %s hearth\n", quoted)
	case "fish":
		fmt.Printf(`# In ~/.config/fish/config.fish: hearth completion fish | source
function __complete_hearth
    set -lx COMP_LINE (commandline -cp)
    test -z (commandline -ct)
    and set COMP_LINE "$COMP_LINE "
    %s
end
complete -f -c hearth -a "(__complete_hearth)"
`, quoted)
	}
	return nil
}
