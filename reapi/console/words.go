package console

import (
	"fmt"
	"html/template"
	"net/url"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/docker/go-units"
)

// words are what templates write values with.
func words() template.FuncMap {
	return template.FuncMap{
		"took": took, "ago": func(t time.Time) string { return took(time.Since(t)) }, "bytes": size, "count": count,
		"share": func(part, of int) string {
			if of == 0 {
				return "–"
			}
			return fmt.Sprintf("%.0f %%", 100*float64(part)/float64(of))
		},
		"clock": func(t time.Time) string { return t.Local().Format("15:04:05") },
		"day":   func(t time.Time) string { return t.Local().Format("2006-01-02 15:04:05 MST") },
		"stamp": func(t time.Time) string { return t.Format(time.RFC3339) },
		"short": short, "segment": url.PathEscape, "shell": ShellLine,
		"plain": func(s string) string { return escapeSequence.ReplaceAllString(s, "") },
	}
}

// took writes a duration with three digits or so, and always in the same way.
func took(d time.Duration) string {
	seconds := d.Seconds()
	switch {
	case d < 0:
		return "0 s"
	case d < 10*time.Millisecond:
		return fmt.Sprintf("%.2f ms", 1000*seconds)
	case d < time.Second:
		return fmt.Sprintf("%.0f ms", 1000*seconds)
	case d < 10*time.Second:
		return fmt.Sprintf("%.2f s", seconds)
	case d < time.Minute:
		return fmt.Sprintf("%.0f s", seconds)
	case d < time.Hour:
		return fmt.Sprintf("%d min %02d s", int(d.Minutes()), int(seconds)%60)
	case d < 24*time.Hour:
		return fmt.Sprintf("%d h %02d min", int(d.Hours()), int(d.Minutes())%60)
	default:
		return fmt.Sprintf("%d d %02d h", int(d.Hours())/24, int(d.Hours())%24)
	}
}

func size(n int64) string {
	return strings.Replace(units.CustomSize("%.3g %s", float64(n), 1024, []string{"B", "KiB", "MiB", "GiB", "TiB", "PiB"}), ".0 ", " ", 1)
}

// count writes a number with thin spaces between its thousands.
func count(n int) string {
	text := strconv.Itoa(n)
	for i := len(text) - 3; i > 0 && text[i-1] != '-'; i -= 3 {
		text = text[:i] + "\u202f" + text[i:]
	}
	return text
}

// short is the beginning of a hash, enough to tell it from others.
func short(digest string) string {
	const enough = 12
	return digest[:min(len(digest), enough)]
}

// escapeSequence is what terminals take as orders, such as colours.
var escapeSequence = regexp.MustCompile("\x1b\\[[0-9;?]*[ -/]*[@-~]")

// ShellLine writes arguments so that a shell reads them as they are.
func ShellLine(args []string) string {
	words := make([]string, 0, len(args))
	for _, arg := range args {
		words = append(words, shellWord(arg))
	}
	return strings.Join(words, " ")
}

// foldedLine is a ShellLine that has each option in a line of its own.
func foldedLine(args []string) string {
	var line strings.Builder
	for i, arg := range args {
		switch {
		case i > 0 && strings.HasPrefix(arg, "--"):
			line.WriteString(" \\\n  ")
		case i > 0:
			line.WriteByte(' ')
		}
		line.WriteString(shellWord(arg))
	}
	return line.String()
}

var harmlessWord = regexp.MustCompile(`^[A-Za-z0-9_@%+=:,./-]+$`)

func shellWord(arg string) string {
	if harmlessWord.MatchString(arg) {
		return arg
	}
	return "'" + strings.ReplaceAll(arg, "'", `'\''`) + "'"
}
