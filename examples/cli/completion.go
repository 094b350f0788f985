package main

import (
	"context"
	"flag"
	"strings"
)

// completion prints a script for a shell. What it completes is written down from the
// commands and flags themselves.
func (c *cli) completion(_ context.Context, args []string) error {
	script, ok := map[string]string{"bash": bashScript, "zsh": zshScript, "fish": fishScript}[args[0]]
	if !ok {
		return usagef("completion is for bash, zsh or fish, not %q", args[0])
	}
	var names, cases, fish strings.Builder
	for _, cmd := range commands() {
		names.WriteString(" " + cmd.name)
		cases.WriteString("\t" + cmd.name + ") words='")
		fish.WriteString("complete -c stayauth -n __fish_use_subcommand -a " + cmd.name + " -d '" + cmd.summary + "'\n")
		newFlagSet(cmd, new(options)).VisitAll(func(f *flag.Flag) {
			cases.WriteString("-" + f.Name + " ")
			fish.WriteString("complete -c stayauth -n '__fish_seen_subcommand_from " + cmd.name + "' -o " + f.Name + "\n")
		})
		if cmd.name == "completion" {
			cases.WriteString("bash zsh fish")
		}
		cases.WriteString("' ;;\n")
	}
	about := "-man"
	for _, t := range topics() {
		about += " " + t.name
	}
	return c.print("%s", strings.NewReplacer("TOPICS", about, "NAMES", strings.TrimSpace(names.String()), "CASES\n", cases.String(), "FISH\n", fish.String()).Replace(script))
}

// After a flag that takes a file, and wherever there is nothing to suggest, the shell
// completes file names.
const bashScript = `# Completion of stayauth for bash: put this into ~/.bashrc
#     source <(stayauth completion bash)
_stayauth() {
	local words cur=${COMP_WORDS[COMP_CWORD]}
	if ((COMP_CWORD == 1)); then
		words='NAMES help'
	else
		case ${COMP_WORDS[1]} in
CASES
		help) words='NAMES TOPICS' ;;
		esac
	fi
	case ${COMP_WORDS[COMP_CWORD-1]} in
	-store) words='keyring file passphrase' ;;
	-flow) words='auto browser device paste client-credentials' ;;
	-provider) words='google github gitlab microsoft auth0: okta: keycloak: salesforce:' ;;
	esac
	COMPREPLY=($(compgen -W "$words" -- "$cur"))
}
complete -o default -F _stayauth stayauth
`

const zshScript = `# Completion of stayauth for zsh: put this into ~/.zshrc, after compinit
#     source <(stayauth completion zsh)
autoload -U +X bashcompinit && bashcompinit
` + bashScript

const fishScript = `# Completion of stayauth for fish:
#     stayauth completion fish > ~/.config/fish/completions/stayauth.fish
complete -c stayauth -n '__fish_use_subcommand; or __fish_seen_subcommand_from help completion' -f
FISH
complete -c stayauth -n __fish_use_subcommand -a help
complete -c stayauth -n '__fish_seen_subcommand_from help' -a 'NAMES TOPICS'
complete -c stayauth -n '__fish_seen_subcommand_from completion' -a 'bash zsh fish'
complete -c stayauth -o store -x -a 'keyring file passphrase'
complete -c stayauth -o flow -x -a 'auto browser device paste client-credentials'
complete -c stayauth -o provider -x -a 'google github gitlab microsoft auth0: okta: keycloak: salesforce:'
`
