package main

import (
	"cmp"
	"context"
	"fmt"
	"os"
	"runtime/debug"
	"strings"
	"sync"
)

// A cli is the program and what surrounds it.
type cli struct {
	stdin, stdout, stderr *os.File
	about                 string // the help that has more: that of the command
	options

	mu sync.Mutex // guards stderr
}

func newCLI(stdin, stdout, stderr *os.File) *cli {
	return &cli{stdin: stdin, stdout: stdout, stderr: stderr}
}

// A command is what the first argument names.
type command struct {
	name    string
	args    string // what follows the flags
	summary string
	help    string
	flags   flagSet // those it has besides the common ones
	bare    bool    // it has no common flags
	run     func(c *cli, ctx context.Context, args []string) error
}

// commands returns the commands, in the order of the help.
func commands() []command {
	return []command{
		{name: "login", summary: "log in, and remember how", help: loginHelp + resetHelp, flags: loginFlags, run: (*cli).login},
		{name: "get", args: "URL", summary: "call an API as you", help: getHelp, flags: getFlags, run: (*cli).get},
		{name: "token", summary: "print an access token, for scripts", help: tokenHelp, flags: tokenFlags, run: (*cli).token},
		{name: "git-credential", args: "ACTION", summary: "give git the token, as its helper", help: gitHelp, flags: gitFlags, run: (*cli).gitCredential},
		{name: "kube-credential", summary: "give kubectl the token, as its plugin", help: kubeHelp, flags: helperFlags, run: (*cli).kubeCredential},
		{name: "status", summary: "show whether you are logged in", help: statusHelp, run: (*cli).status},
		{name: "accounts", summary: "list your accounts", help: accountsHelp, run: (*cli).accounts},
		{name: "use", args: "ACCOUNT", summary: "choose the account to use from now on", help: useHelp, run: (*cli).use},
		{name: "logout", summary: "end a login, here and at the provider", help: logoutHelp, flags: logoutFlags, run: (*cli).logout},
		{name: "export", args: "FILE", summary: "copy your logins, sealed, into a file", help: exportHelp, flags: exportFlags, run: (*cli).export},
		{name: "import", args: "FILE", summary: "take over logins, also those of other programs", help: importHelp + takeOverHelp, flags: importFlags, run: (*cli).imports},
		{name: "adopt", summary: "use logins that were restored or copied here", help: adoptHelp, run: (*cli).adopt},
		{name: "discard", summary: "remove logins that were copied here", help: discardHelp, run: (*cli).discard},
		{name: "completion", args: "bash|zsh|fish", summary: "print the completion for a shell", help: completionHelp, bare: true, run: (*cli).completion},
	}
}

// command runs the command that args name.
func (c *cli) command(ctx context.Context, args []string) error {
	name := "help"
	if len(args) > 0 {
		name, args = args[0], args[1:]
	}
	switch name {
	case "help", "-h", "-help", "--help":
		return c.help(args)
	case "version", "-version", "--version":
		return c.print("stayauth %s\n", version())
	}
	for _, cmd := range commands() {
		if cmd.name != name {
			continue
		}
		c.about = " " + name
		rest, asked, err := c.parse(cmd, args, os.Getenv)
		if err != nil {
			return err
		}
		if asked {
			return c.help([]string{name})
		}
		if want := len(strings.Fields(cmd.args)); len(rest) != want {
			takes := "no arguments"
			if want > 0 {
				takes = "one argument, " + cmd.args
			}
			return usagef("%s takes %s, and got %d", name, takes, len(rest))
		}
		return cmd.run(c, ctx, rest)
	}
	if strings.HasPrefix(name, "-") {
		return usagef("flags follow the command, and there is no command %q", name)
	}
	return usagef("there is no command %q", name)
}

// version returns what go build knows of the version, such as
// "v1.2.3 (commit 0123456789ab, go1.26.8 linux/amd64)".
func version() string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return "(unknown)"
	}
	return describe(info)
}

func describe(info *debug.BuildInfo) string {
	setting := map[string]string{}
	for _, s := range info.Settings {
		setting[s.Key] = s.Value
	}
	about := info.GoVersion + " " + setting["GOOS"] + "/" + setting["GOARCH"]
	if commit := setting["vcs.revision"]; commit != "" { // There is none in what go install has got from a proxy.
		if len(commit) > 12 {
			commit = commit[:12]
		}
		if setting["vcs.modified"] == "true" {
			commit += ", changed since"
		}
		about = "commit " + commit + ", " + about
	}
	return cmp.Or(info.Main.Version, "(unknown)") + " (" + about + ")"
}

// print writes what the user or a script has asked for.
func (c *cli) print(format string, args ...any) error {
	_, err := fmt.Fprintf(c.stdout, format, args...)
	return err
}

// say tells the user something.
func (c *cli) say(format string, args ...any) {
	c.mu.Lock()
	defer c.mu.Unlock()
	fmt.Fprintf(c.stderr, format, args...)
}
