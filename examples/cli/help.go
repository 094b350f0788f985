package main

// The texts of the help. manual.go makes pages of them, and of the flags.

const purpose = "call web APIs as you: log in once, and stay logged in"

const overview = `Stayauth calls web APIs as you. You log in once, and stay logged in.

Usage: stayauth COMMAND [flags] [arguments]

Commands:

COMMANDS
'stayauth help COMMAND' shows the flags of a command, and 'stayauth help TOPIC' more:

TOPICS
'stayauth help -man' prints all of that as a page for man, and 'stayauth version' which
version this is.

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

With -dpop, a thief of the tokens, or of a log that has one, cannot use them. Nor can
other programs: 'stayauth get' calls the API, but 'stayauth token' has nothing for them.

With -flow client-credentials nobody is asked: the program acts for itself, as a robot
does. It proves who it is by the client secret, or better by a private key, of which
only the path is remembered. A key can be replaced at any time.

  stayauth login -flow client-credentials -issuer https://login.example.com \
      -client-id my-robot -client-key-file robot.pem -origin https://api.example.com
  stayauth login -flow client-credentials -provider google -client-key-file key.json \
      -scope https://www.googleapis.com/auth/drive.readonly -account ann@example.com
`

const resetHelp = `
A login that takes the place of another is in its place here only: at the provider the
former one lives on until it ends by itself. With -reset it is ended first.
`

const getHelp = `Get calls an API as you and prints what it answers. The token goes to the origins
that login was told of, and to no other. If the API refuses it, it is renewed and
the call is repeated, once. If the API demands more than your login has, such as another
scope or a second factor, you are asked to log in again, provided that you are at a
terminal. 'stayauth help curl' says what is otherwise than with curl.

  stayauth get https://api.github.com/user
  stayauth get -d '{"title":"hello"}' https://api.example.com/notes
`

const tokenHelp = `Token prints an access token that is good now, and renews it first if it is not.
It prints nothing else, and the exit status says why there is none. Do not write the
token into a command line, where others can see it. If you have logged in for several
APIs with -resource, say which of them it is for:

  stayauth token -header | curl -H @- https://api.example.com/me
  stayauth token -header -resource https://mail.example.com | curl -H @- https://mail.example.com/me
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
  stayauth use ''   # the one without a name
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

NO_COLOR turns colours off, HTTPS_PROXY and NO_PROXY name a proxy and what needs none.
`

const curlHelp = `'Stayauth get' does what curl does, with these differences. Get has the flags -X, -H, -d,
--data-binary, -o, -i, -I, -f, -L, -s and -S of curl, and no others. Each stands alone,
and its value is the next argument: -f -s -X POST, not -fsXPOST.

  URL      one, complete with https://, and taken literally: [1-3] and {a,b} are no lists
  -d       is sent as it is, as application/json, and from a file with its line ends, as
           with --data-binary; once: several are not joined
  -H       takes a header, and not a file of them; Host, Content-Length and Authorization
           are refused: stayauth sets them
  -i, -I   show the headers of the last answer, sorted, and not those of redirects
  -L       is always on: a redirect is followed, with the token only to the origins that
           may have it
  -s, -S   are always on
  -f       leaves the answer out; the exit status says that it is an error, 1, with or
           without it
  -v       logs what happens to the login, and not what is sent
  -u       there is none, nor a user name in a URL: the token says who you are
  -w       there is none: the exit status and -i tell the status of the answer
  -G, -T   there are none: write the query into the URL, and use -X PUT -d @FILE

Exit statuses are those of 'stayauth help': 22 of curl is 1, 2 and 3 are 2, 6 and 7 are
4, 18, 23 and 60 are 1. Whatever else curl can do, it can do with your token:

  stayauth token -header | curl -H @- --compressed --retry 3 https://api.example.com/me
`

const ghHelp = `What to type if you know 'gh auth':

  gh auth login                   stayauth login
  gh auth login --web             stayauth login -flow browser
  gh auth login --scopes S        stayauth login -scope S
  gh auth login --hostname H      stayauth login -provider gitlab:https://H, or -issuer
  gh auth login --with-token      set STAYAUTH_TOKEN or STAYAUTH_TOKEN_FILE: not stored
  gh auth status                  stayauth status; stayauth accounts shows all of them
  gh auth status --show-token     stayauth token -show
  gh auth token                   stayauth token, with -show if it is for your screen
  gh auth token --user U          stayauth token -account U
  gh auth refresh                 not needed: a token is renewed when it has expired
  gh auth refresh --scopes S      stayauth login -scope S, with all scopes that you want
  gh auth refresh --reset-scopes  stayauth login -reset
  gh auth switch --user U         stayauth use U
  gh auth switch                  stayauth use U: it is said which, even of two accounts
  gh auth git-credential          stayauth git-credential
  gh auth setup-git               see 'stayauth help git-credential'
  gh api URL                      stayauth get URL, with the whole URL
  GH_TOKEN=T gh                   STAYAUTH_TOKEN=T stayauth, and -origin
  gh auth logout --user U         stayauth logout -account U
  gh auth logout                  stayauth logout, which ends it at the provider too

Nothing asks questions on the terminal, so that nothing has to be answered in scripts.
The exit status if you have to log in is 3, of every command: gh has 4, and 1 of status.
`
