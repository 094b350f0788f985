// Quickstart shows a client that stays logged in.
//
// Without arguments it brings its own provider and API, on a loopback address, and
// takes about 20 seconds to show what happens to a login in real life: renewals, an
// outage, a revoked token, a restart, a second process. With -issuer it does the
// same job for real: it logs in at a provider once and calls a URL every second,
// for as long as you like, also tomorrow.
//
// Either keeps its login in a file, sealed. The key is in the OS keyring or, where
// that does not work, in a file too, and the program says which and why; -store
// chooses.
//
// client.go is the part to copy. demo.go is the demonstration, real.go the real
// thing, and login.go how either logs in.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"net/url"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/stayauth/stayauth/tokencache"
	"github.com/stayauth/stayauth/transport"
)

const secretVar = "STAYAUTH_CLIENT_SECRET"

const usage = `Usage:

  quickstart [-store S]
        a demonstration, with a provider and an API of its own

  quickstart -issuer URL -client-id ID [-client-secret S] [-scope S] [-store S] -url URL
        log in at a provider, once, and call the URL every second until Ctrl-C

  quickstart -issuer URL -client-id ID [-client-secret S] [-store S] -logout
        end that login, here and at the provider

Flags:
`

const usageEnd = `
The login is stored in a file, sealed with AES-256-GCM. If the key is in the OS
keyring, that file is of no use without it; a key file protects against little more
than a glance. While a login is stored, its key stays where it is. The program says
which place it has chosen, and why not the keyring.

NO_COLOR turns colours off.

Exit status:
  0    all calls were answered, or Ctrl-C ended them
  1    a call failed, a refresh token was reused, or there is no login
  2    flags or configuration are wrong
  130  Ctrl-C, before the demonstration or the login was complete
`

// options are what the command line says.
type options struct {
	issuer   string
	clientID string
	secret   tokencache.Secret
	scopes   []string
	url      string
	every    time.Duration // the interval between calls
	logout   bool
	storage  storage
	pace     float64 // of the demonstration
}

func main() {
	if conf := os.Getenv(childVar); conf != "" {
		os.Exit(exitStatus(context.Background(), os.Stderr, childMain(conf, os.Stdin, os.Stdout)))
	}
	os.Exit(run(os.Args[1:], os.Getenv, os.Stdout, os.Stderr))
}

func run(args []string, getenv func(string) string, stdout *os.File, stderr io.Writer) int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM, syscall.SIGPIPE)
	defer stop()
	context.AfterFunc(ctx, stop) // The second Ctrl-C ends the program at once.
	// But what is written when nobody reads any more, as after "| head", must not end
	// it before it has cleaned up.
	signal.Notify(make(chan os.Signal, 1), syscall.SIGPIPE)

	o, err := parse(args, getenv, stderr)
	if errors.Is(err, flag.ErrHelp) {
		return 0
	}
	if err != nil {
		return exitStatus(ctx, stderr, err)
	}
	tl := newTimeline(stdout, getenv)
	return exitStatus(ctx, stderr, o.run(ctx, tl, nil))
}

// run does what the command line says. open is nil for the browser of the desktop.
func (o options) run(ctx context.Context, tl *timeline, open func(ctx context.Context, url string) error) error {
	if o.issuer == "" {
		return newDemo(tl, o).run(ctx)
	}
	return stayLoggedIn(ctx, o, tl, open)
}

// A usageError is a mistake on the command line.
type usageError string

func (e usageError) Error() string { return string(e) }

// exitStatus reports err, and returns the status that the program exits with.
// ctx ends with Ctrl-C.
func exitStatus(ctx context.Context, stderr io.Writer, err error) int {
	if err == nil {
		return 0
	}
	status, hint := 1, ""
	switch wrong := usageError(""); {
	case errors.As(err, &wrong):
		status, hint = 2, " (-h shows how)"
	case ctx.Err() != nil && (errors.Is(err, ctx.Err()) || errors.Is(err, context.Cause(ctx))):
		status = 130
	case errors.Is(err, transport.ErrMisconfigured):
		status = 2
	}
	fmt.Fprintf(stderr, "quickstart: %v%s\n", err, hint)
	return status
}

func parse(args []string, getenv func(string) string, stderr io.Writer) (options, error) {
	o := options{every: time.Second, pace: 1}
	var secret, scope string
	fs := flag.NewFlagSet("quickstart", flag.ContinueOnError)
	fs.SetOutput(io.Discard) // Errors are reported once, by exitStatus.
	fs.StringVar(&o.issuer, "issuer", "", "issuer `URL` of the provider; its endpoints are discovered")
	fs.StringVar(&o.clientID, "client-id", "", "`ID` of this program at the provider")
	fs.StringVar(&secret, "client-secret", "", "`secret` of this program, if it has one. Better set\n"+
		secretVar+": others can see the arguments of a process")
	fs.StringVar(&scope, "scope", "", "`scopes` to ask for, separated by spaces. Many providers issue a\nrefresh token only for offline_access")
	fs.StringVar(&o.url, "url", "", "`URL` to call; the token goes to its scheme, host and port only")
	fs.StringVar(&o.storage.Key, "store", "", "`place` of the key that seals the login: keyring or file. Default: the\nkeyring of the operating system where it works, otherwise a file")
	fs.BoolVar(&o.logout, "logout", false, "end the login")
	if err := fs.Parse(args); err != nil {
		if errors.Is(err, flag.ErrHelp) {
			fmt.Fprint(stderr, usage)
			fs.SetOutput(stderr)
			fs.PrintDefaults()
			fmt.Fprint(stderr, usageEnd)
			return o, err
		}
		return o, usageError(err.Error())
	}
	o.scopes = strings.Fields(scope)

	if fs.NArg() > 0 {
		return o, usageError(fmt.Sprintf("%q is not a flag", fs.Arg(0)))
	}
	if k := o.storage.Key; k != "" && k != "keyring" && k != "file" {
		return o, usageError(fmt.Sprintf("-store must be keyring or file, not %q", k))
	}
	if o.issuer == "" {
		var err error
		fs.Visit(func(f *flag.Flag) {
			if f.Name != "store" {
				err = usageError("-issuer is missing: without it there is only the demonstration, which takes no flag but -store")
			}
		})
		return o, err
	}
	if o.clientID == "" {
		return o, usageError("-client-id is missing: the provider has to know this program")
	}
	env := getenv(secretVar)
	if secret != "" && env != "" {
		return o, usageError("-client-secret and " + secretVar + " are both set: use one")
	}
	o.secret = tokencache.Secret(secret + env)
	if err := checkURL("-issuer", o.issuer); err != nil {
		return o, err
	}
	switch {
	case o.logout && o.url != "":
		return o, usageError("-logout calls nothing: remove -url")
	case o.logout:
		return o, nil
	case o.url == "":
		return o, usageError("-url is missing: what shall be called?")
	}
	return o, checkURL("-url", o.url)
}

// checkURL refuses what no token may be sent to. The packages below would do so
// too, but they do not know which flag it was.
func checkURL(name, raw string) error {
	u, err := url.Parse(raw)
	switch {
	case err != nil || u.Host == "" || u.Scheme != "https" && u.Scheme != "http":
		return usageError(name + " must be a complete URL, such as https://login.example.com")
	case u.User != nil:
		return usageError(name + " must not hold a user name or password")
	case u.Scheme == "http" && !loopback(u.Hostname()):
		return usageError(name + " must be https: plain http is for loopback addresses only")
	}
	return nil
}
