// Robot is a service without a secret: it calls an API as itself and on behalf of users, and its
// keys are replaced while it runs.
//
// Without arguments it brings its own provider and API, on a loopback address, and takes about
// 15 seconds to show that: a key file that is replaced, a token of the platform, and two robots
// that share their tokens.
//
// With -issuer it does the same job for real, until Ctrl-C. The provider has to know the public
// key of the client, and that it may use client credentials and, for -as, the grant for that:
//
//	robot -issuer https://sso.example.com/realms/staff -client-id robot -key-file robot.jwk \
//		-scope openid -api https://sso.example.com/realms/staff/protocol/openid-connect/userinfo
//
// robot.go is the part to copy, demo.go the demonstration.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"
)

// options are what the command line says.
type options struct {
	issuer, clientID string
	scopes           []string
	keyFile, keyID   string
	tokenFile        string
	api              string
	users            []string // on whose behalf
	subjects         *os.Root // their tokens; nil: the key signs for them
	dir              string
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop) // The second Ctrl-C ends the program at once.
	err := run(ctx, os.Args[1:], os.Stdout)
	if err != nil && !errors.Is(err, flag.ErrHelp) {
		fmt.Fprintln(os.Stderr, "robot:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string, out io.Writer) error {
	o, err := parse(args)
	if err != nil {
		return err
	}
	if o.subjects != nil {
		defer o.subjects.Close()
	}
	if o.dir == "" {
		if o.dir, err = os.MkdirTemp("", "stayauth-robot-"); err != nil {
			return err
		}
		defer os.RemoveAll(o.dir)
	}
	if o.issuer == "" {
		return demonstrate(ctx, o.dir, out)
	}
	t := newTally(out)
	r, err := newRobot(ctx, o, t.event)
	if err != nil {
		return err
	}
	fmt.Fprintf(out, "calling %s once a second, until Ctrl-C\n", o.api)
	if err := r.work(ctx, o.users, time.Second, func(user string, _ []byte, err error) { t.call(user, err) }); err != nil {
		return err
	}
	fmt.Fprintln(out, t)
	return t.check()
}

func parse(args []string) (o options, err error) {
	flags := flag.NewFlagSet("robot", flag.ContinueOnError)
	flags.StringVar(&o.issuer, "issuer", "", "issuer `URL` of the provider; without it there is only the demonstration")
	flags.StringVar(&o.clientID, "client-id", "", "`ID` of the robot at the provider")
	flags.StringVar(&o.keyFile, "key-file", "", "private key of the robot, in a `file`: PEM, or a JSON Web Key.\nIt may be replaced at any time")
	flags.StringVar(&o.keyID, "kid", "", "`name` of the key at the provider, if it needs one; a JSON Web\nKey says that itself")
	flags.StringVar(&o.tokenFile, "token-file", "", "in place of a key: `file` with a token of the platform")
	flags.StringVar(&o.api, "api", "", "`URL` to call; tokens go to its scheme, host and port only")
	scope := flags.String("scope", "", "`scopes` of the tokens, separated by spaces")
	as := flags.String("as", "", "`users` to act for, separated by commas")
	subjects := flags.String("subject-tokens", "", "`directory` with a token of each user, in a file of that name, to exchange.\nDefault: the key signs for whom a token is")
	flags.StringVar(&o.dir, "dir", "", "`directory` for tokens, sealed; robots that have it in common share them.\nDefault: a temporary one")
	if err := flags.Parse(args); err != nil {
		return o, err
	}
	o.scopes = strings.Fields(*scope)
	if *as != "" {
		o.users = strings.Split(*as, ",")
	}
	switch {
	case flags.NArg() > 0:
		return o, fmt.Errorf("%q is not a flag", flags.Arg(0))
	case o.issuer == "" && flags.NFlag() > 0:
		return o, errors.New("-issuer is missing: without it there is only the demonstration, which takes no flags")
	case o.issuer == "":
		return o, nil
	case o.clientID == "" || o.api == "":
		return o, errors.New("-client-id and -api are needed too")
	case (o.keyFile == "") == (o.tokenFile == ""):
		return o, errors.New("set -key-file or -token-file")
	case o.tokenFile != "" && len(o.users) > 0 && *subjects == "":
		return o, errors.New("without a key nothing can be signed for users: set -subject-tokens")
	case *subjects != "":
		o.subjects, err = os.OpenRoot(*subjects)
	}
	return o, err
}
