package main

import (
	"flag"
	"fmt"
	"strings"
)

// A topic is a page of the help that is about no command.
type topic struct{ name, summary, text string }

func topics() []topic {
	var list strings.Builder
	for _, v := range variables {
		fmt.Fprintf(&list, "  %-28s -%s\n", v.name, v.flag)
	}
	return []topic{
		{"environment", "variables that can stand for flags, and those for secrets", insert(environmentHelp, "VARIABLES", list.String())},
		{"curl", "what get does otherwise than curl", curlHelp},
		{"gh", "what to type if you know 'gh auth'", ghHelp},
	}
}

// insert puts a list into a text, where a line has its name.
func insert(text, name, list string) string { return strings.Replace(text, name+"\n", list+"\n", 1) }

// front is the first page.
func front() string {
	var cmds, tops strings.Builder
	for _, cmd := range commands() {
		fmt.Fprintf(&cmds, "  %-26s %s\n", strings.TrimSpace(cmd.name+" "+cmd.args), cmd.summary)
	}
	for _, t := range topics() {
		fmt.Fprintf(&tops, "  %-26s %s\n", t.name, t.summary)
	}
	return insert(insert(overview, "COMMANDS", cmds.String()), "TOPICS", tops.String())
}

// help prints the help that was asked for: to standard output, because it is the result.
func (c *cli) help(args []string) error {
	about := strings.Join(args, " ")
	switch about {
	case "":
		return c.print("%s", front())
	case "-man", "--man":
		return c.print("%s", man())
	}
	for _, t := range topics() {
		if t.name == about {
			return c.print("%s", t.text)
		}
	}
	for _, cmd := range commands() {
		if cmd.name == about {
			return c.print("%s", cmd.page())
		}
	}
	return usagef("there is no help on %q", about)
}

func (cmd command) usage() string {
	return strings.TrimSpace("stayauth " + cmd.name + " [flags] " + cmd.args)
}

func (cmd command) page() string {
	page := "Usage: " + cmd.usage() + "\n\n" + cmd.help + "\n"
	if cmd.flags != nil {
		page += "Flags:\n" + columns(flagsOf(cmd.flags)) + "\n"
	}
	if !cmd.bare {
		page += "Flags of all commands:\n" + columns(flagsOf(commonFlags))
	}
	return page
}

func flagsOf(declare flagSet) *flag.FlagSet {
	fs := flag.NewFlagSet("", flag.ContinueOnError)
	declare(fs, new(options))
	return fs
}

// columns describes flags in two columns.
func columns(fs *flag.FlagSet) string {
	const column = 30
	var b strings.Builder
	fs.VisitAll(func(f *flag.Flag) {
		value, usage := flag.UnquoteUsage(f)
		if isSwitch(f) {
			value = ""
		}
		head := strings.TrimRight("  -"+f.Name+" "+value, " ")
		if len(head) >= column {
			head += "\n" + strings.Repeat(" ", column)
		}
		fmt.Fprintf(&b, "%-*s%s\n", column, head, strings.ReplaceAll(usage, "\n", "\n"+strings.Repeat(" ", column)))
	})
	return b.String()
}

// isSwitch reports whether a flag has no value.
func isSwitch(f *flag.Flag) bool {
	b, ok := f.Value.(interface{ IsBoolFlag() bool })
	return ok && b.IsBoolFlag()
}

// man returns all of the help as a page for man(1), in the macros of man(7).
func man() string {
	var b strings.Builder
	fmt.Fprintf(&b, ".TH STAYAUTH 1\n.nh\n.SH NAME\nstayauth \\- %s\n.SH DESCRIPTION\n%s", escape(purpose), roff(front()))
	b.WriteString(".SH COMMANDS\n")
	for _, cmd := range commands() {
		fmt.Fprintf(&b, ".SS %s\n%s", escape(cmd.usage()), roff(cmd.help))
		if cmd.flags != nil {
			b.WriteString(tagged(flagsOf(cmd.flags)))
		}
	}
	fmt.Fprintf(&b, ".SH FLAGS OF ALL COMMANDS\n%s", tagged(flagsOf(commonFlags)))
	for _, t := range topics() {
		fmt.Fprintf(&b, ".SH %s\n%s", strings.ToUpper(t.name), roff(t.text))
	}
	return b.String()
}

// roff returns a text of paragraphs, of which those that are indented are shown as they are.
func roff(text string) string {
	var b strings.Builder
	asIs := false
	for line := range strings.Lines(text) {
		line = strings.TrimSuffix(line, "\n")
		literal := strings.HasPrefix(line, "  ")
		switch {
		case line == "":
			b.WriteString(map[bool]string{true: ".sp\n", false: ".PP\n"}[asIs])
			continue
		case literal && !asIs:
			b.WriteString(".nf\n")
		case !literal && asIs:
			b.WriteString(".fi\n")
		}
		asIs = literal
		b.WriteString(escape(line) + "\n")
	}
	if asIs {
		b.WriteString(".fi\n")
	}
	return b.String()
}

// tagged describes flags in a list.
func tagged(fs *flag.FlagSet) string {
	var b strings.Builder
	fs.VisitAll(func(f *flag.Flag) {
		value, usage := flag.UnquoteUsage(f)
		if isSwitch(f) {
			value = ""
		}
		fmt.Fprintf(&b, ".TP\n\\fB%s\\fR \\fI%s\\fR\n%s\n", escape("-"+f.Name), escape(value), escape(strings.ReplaceAll(usage, "\n", " ")))
	})
	return b.String()
}

// escape keeps a line from being taken for a request, and its hyphens from being typeset.
func escape(line string) string {
	line = strings.NewReplacer(`\`, `\e`, "-", `\-`).Replace(line)
	if strings.HasPrefix(line, ".") || strings.HasPrefix(line, "'") {
		line = `\&` + line
	}
	return line
}
