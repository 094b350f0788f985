// Stayauth logs in once and stays logged in: an authenticated curl, and a program to
// copy into your own.
//
//	stayauth login -provider github -client-id Iv1.0123456789abcdef
//	stayauth get https://api.github.com/user
//
// main.go is what every command-line program needs around its work so that neither Ctrl-C nor a
// closed window or pipe costs a login. session.go puts the library together. The other files are
// commands, options and manners.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/stayauth/stayauth/tokencache"
	"github.com/stayauth/stayauth/transport"
)

func main() {
	// The first Ctrl-C ends ctx, and with it what the user waits for. From then on a
	// second one ends the program at once, as if nobody had asked for signals.
	ending := []os.Signal{os.Interrupt, syscall.SIGTERM, syscall.SIGQUIT}
	// A window that is closed says so more than once, and takes the terminal away. A
	// pipe whose reader has gone kills whoever writes to it, even "Finishing...". Both
	// may end what the user waits for, and not the program in the middle of a refresh.
	staying := []os.Signal{syscall.SIGPIPE}
	if !signal.Ignored(syscall.SIGHUP) { // by nohup
		ending, staying = append(ending, syscall.SIGHUP), append(staying, syscall.SIGHUP)
	}
	ctx, stop := signal.NotifyContext(context.Background(), ending...)
	context.AfterFunc(ctx, stop)
	signal.Notify(make(chan os.Signal, 1), staying...)
	os.Exit(run(ctx, os.Args[1:]))
}

// closeTimeout bounds how long the program outlives its work or Ctrl-C, to save a
// refresh that is in flight. It is more than Endpoint.Timeout, 15 seconds.
const closeTimeout = 20 * time.Second

// closeSource is the other half: a refresh token may be spent already, so its
// successor is waited for and stored although ctx has ended, and if it cannot be
// stored at once, the user has some time to do something about that, see onEvent.
func (c *cli) closeSource(source *transport.Source) {
	ctx, cancel := context.WithTimeout(context.Background(), closeTimeout)
	defer cancel()
	if c.Robot { // It gets another token whenever it wants one.
		if err := source.Close(ctx); err != nil {
			c.say("%v\n", err)
		}
		return
	}
	told := time.AfterFunc(300*time.Millisecond, func() {
		c.say("Finishing the refresh of your login. Ctrl-C now could cost you the login.\n")
	})
	defer told.Stop()
	if err := source.Close(ctx); err != nil {
		c.say("%v\nThe login could not be saved: you will have to log in again.\n", err)
	}
}

// The exit statuses. They are documented in the help.
const (
	exitOK          = 0
	exitFailure     = 1
	exitUsage       = 2
	exitLogin       = 3
	exitUnavailable = 4
	exitStorage     = 5
	exitInterrupted = 130
	exitPipe        = 141
)

func run(ctx context.Context, args []string) int {
	c := newCLI(os.Stdin, os.Stdout, os.Stderr)
	err := c.command(ctx, args)
	status := exitStatus(ctx, err)
	if err != nil && status != exitInterrupted && status != exitPipe {
		c.say("%s %s\n", c.paint(red, "stayauth:"), message(err))
	}
	if _, ok := errors.AsType[usageError](err); ok && status == exitUsage {
		c.say("See 'stayauth help%s'.\n", c.about)
	}
	c.sayCopied(err)
	if status == exitLogin {
		c.say("Log in with 'stayauth login'.\n")
	}
	return status
}

// message returns what the user is told of err. Where the library has met a usageError, that says
// it in the words of this program.
func message(err error) string {
	text := err.Error()
	if e, ok := errors.AsType[*transport.Error](err); ok {
		if usage, ok := errors.AsType[usageError](e.Err); ok {
			text = strings.Replace(text, e.Error(), usage.Error(), 1)
		}
	}
	return strings.ReplaceAll(strings.TrimPrefix(text, "stayauth: "), ": stayauth: ", ": ")
}

// A usageError is a mistake on the command line or in the environment.
type usageError string

func (e usageError) Error() string { return string(e) }

func usagef(format string, args ...any) error { return usageError(fmt.Sprintf(format, args...)) }

// exitStatus returns the status that the program exits with after err. Of several
// errors the one counts that only the user can do something about.
func exitStatus(ctx context.Context, err error) int {
	is := func(target error) bool { return errors.Is(err, target) }
	_, usage := errors.AsType[usageError](err)
	network, unreachable := errors.AsType[net.Error](err)
	if _, system := network.(syscall.Errno); system { // It calls itself one, also that of a file.
		unreachable = false
	}
	_, unstored := errors.AsType[settingsError](err)
	file, _ := errors.AsType[*fs.PathError](err)
	switch {
	case err == nil:
		return exitOK
	case ctx.Err() != nil:
		return exitInterrupted
	case file != nil && file.Path == os.Stdout.Name() && is(syscall.EPIPE):
		return exitPipe // as if the signal had ended it
	case usage, is(transport.ErrMisconfigured):
		return exitUsage
	case is(transport.ErrLoginRequired):
		return exitLogin
	case unstored, is(transport.ErrStorage), is(tokencache.ErrUnavailable), is(tokencache.ErrCorrupt):
		return exitStorage
	case is(transport.ErrUnavailable), is(transport.ErrAmbiguous), unreachable, is(io.EOF):
		return exitUnavailable
	}
	return exitFailure
}
