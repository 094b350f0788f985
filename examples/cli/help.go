package main

import (
	"flag"
	"fmt"
	"strings"
)

const overview = `Stayauth calls web APIs as you. You log in once, and stay logged in.

Usage: stayauth COMMAND [flags] [arguments]

Commands:
`

const overviewEnd = `
'stayauth help COMMAND' shows the flags of a command, and 'stayauth help environment'
the variables that can stand for them. 'stayauth version' shows which one this is.

Exit status:
  0    done
  1    it failed; with get also: the API answered 400 or more
  2    the command line, the configuration or the client's registration is wrong
  3    you have to log in
  4    the provider or the API cannot be reached; try again later
  5    the logins or the settings cannot be read or stored: a locked keyring, a full disk
  130  Ctrl-C, or the terminal was closed
  141  nobody reads the output any more
`

const loginHelp = `Login opens the provider's page in your browser, and keeps the tokens that it gets:
sealed, with the key in the keyring of your system. It remembers its flags, so
that the other commands need none, and the account, which is then the one in use.

A client secret, if the provider gave you one, is never an argument, because
others can see those: set STAYAUTH_CLIENT_SECRET, or use -client-secret-file.

  stayauth login -provider github -client-id Iv1.0123456789abcdef
  stayauth login -issuer https://login.example.com -client-id my-app \
      -scope 'openid read' -origin https://api.example.com

With -dpop, a thief of the tokens, or of a log that has one, cannot use them. Nor can other
programs: 'stayauth get' calls the API, but 'stayauth token' has nothing for them.

With -flow client-credentials nobody is asked: the program acts for itself, as a robot
does. It proves who it is by the client secret, or better by a private key, of which
only the path is remembered. A key can be replaced at any time.

  stayauth login -flow client-credentials -issuer https://login.example.com \
      -client-id my-robot -client-key-file robot.pem -origin https://api.example.com
  stayauth login -flow client-credentials -provider google -client-key-file key.json \
      -scope https://www.googleapis.com/auth/drive.readonly -account ann@example.com
`

const getHelp = `Get calls an API as you and prints what it answers. The token goes to the origins
that login was told of, and to no other. If the API refuses it, it is renewed and
the call is repeated, once. If the API demands more than your login has, such as another
scope or a second factor, you are asked to log in again, provided that you are at a
terminal.

  stayauth get https://api.github.com/user
  stayauth get -d '{"title":"hello"}' https://api.example.com/notes
`

const tokenHelp = `Token prints an access token that is good now, and renews it first if it is not.
It prints nothing else, and the exit status says why there is none. Do not write the
token into a command line, where others can see it:

  stayauth token -header | curl -H @- https://api.example.com/me
`

const statusHelp = `Status shows whose login is used, and how it stands. It asks nobody: that a provider
has ended a login is noticed when the token is next renewed. The exit status is 0 if
you are logged in and 3 if you have to log in.
`

const accountsHelp = `Accounts lists the accounts that are logged in, of all providers. The one in use has a
star. Names come from the provider, if -scope openid asked for them, and are there to
tell the accounts apart, no more.
`

const useHelp = `Use makes another account the one in use, until the next login.

  stayauth use ann@example.com
`

const logoutHelp = `Logout revokes the tokens at the provider, and then removes them here. If the provider
cannot be told, nothing is removed, and you can try again.
`

const exportHelp = `Export copies all your logins into a new file, sealed to a public key: only the holder
of the private key can read it. FILE may be - for standard output. The settings are
not in it: copy settings.json too, which holds no secret. It is where -dir says, or
else with the settings of other programs, in ~/.config/stayauth-cli for instance.

Providers that rotate refresh tokens accept each of them once. So of two copies that
are both used, one is taken for a thief's, and the login ends for both: to move to
another machine, export, import there, and use the logins here no more. As a backup,
an export is worth what your providers make of old refresh tokens.

  openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out private.pem
  openssl pkey -in private.pem -pubout -out public.pem
  stayauth export -to public.pem logins.export
`

const importHelp = `Import takes over the logins of an export. It replaces no login here that is newer, so
that it does no harm to import twice. FILE may be - for standard input. Anybody who has
the public key can write an export: import only your own.

  stayauth import -key private.pem logins.export
`

const adoptHelp = `Adopt decides that the logins which came here with a restored backup or a copied
directory are used here from now on. Until then they are not renewed, because a
provider can take that for theft if they are also used where they were copied from.
Logins that were renewed there since they were copied usually have to be made anew.
`

const discardHelp = `Discard removes the logins that came here with a copied directory. Their providers are
told nothing, so the logins live on where they were copied from.
`

const completionHelp = `Completion prints a script that makes your shell complete commands and flags.

  source <(stayauth completion bash)
`

const environmentHelp = `Variables that stand for a flag, which goes before them:

VARIABLES
Variables without a flag, because they are secret:

  STAYAUTH_CLIENT_SECRET    the client secret
  STAYAUTH_PASSPHRASE       the passphrase of -store passphrase
  STAYAUTH_PASSPHRASE_FILE  a file that holds it
  STAYAUTH_TOKEN            an access token to use instead of a login, as in a CI job;
                            it is not stored, and goes to the origins of -origin only
  STAYAUTH_TOKEN_FILE       a file that holds it, and that something else renews

NO_COLOR turns colours off.
`

// help prints the help that was asked for: to standard output, because it is the result.
func (c *cli) help(args []string) error {
	topic := strings.Join(args, " ")
	if topic == "environment" {
		var list strings.Builder
		for _, v := range variables {
			fmt.Fprintf(&list, "  %-28s -%s\n", v.name, v.flag)
		}
		return c.print("%s", strings.Replace(environmentHelp, "VARIABLES\n", list.String()+"\n", 1))
	}
	if topic == "" {
		text := overview
		for _, cmd := range commands() {
			text += fmt.Sprintf("  %-26s %s\n", strings.TrimSpace(cmd.name+" "+cmd.args), cmd.summary)
		}
		return c.print("%s%s", text, overviewEnd)
	}
	for _, cmd := range commands() {
		if cmd.name == topic {
			return c.commandHelp(cmd)
		}
	}
	return usagef("there is no help on %q", topic)
}

func (c *cli) commandHelp(cmd command) error {
	usage := strings.TrimSpace("stayauth " + cmd.name + " [flags] " + cmd.args)
	if err := c.print("Usage: %s\n\n%s\n", usage, cmd.help); err != nil {
		return err
	}
	if cmd.flags != nil {
		own := flag.NewFlagSet("", flag.ContinueOnError)
		cmd.flags(own, new(options))
		if err := c.print("Flags:\n%s\n", flagHelp(own)); err != nil {
			return err
		}
	}
	if cmd.bare {
		return nil
	}
	common := flag.NewFlagSet("", flag.ContinueOnError)
	commonFlags(common, new(options))
	return c.print("Flags of all commands:\n%s", flagHelp(common))
}

// flagHelp describes flags in two columns.
func flagHelp(fs *flag.FlagSet) string {
	const column = 30
	var b strings.Builder
	fs.VisitAll(func(f *flag.Flag) {
		value, usage := flag.UnquoteUsage(f)
		head := strings.TrimRight("  -"+f.Name+" "+value, " ")
		if len(head) >= column {
			head += "\n" + strings.Repeat(" ", column)
		}
		fmt.Fprintf(&b, "%-*s%s\n", column, head, strings.ReplaceAll(usage, "\n", "\n"+strings.Repeat(" ", column)))
	})
	return b.String()
}
