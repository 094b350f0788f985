package transport_test

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/stayauth/stayauth/transport"
)

var config transport.SourceConfig

// A command-line program that is put together by hand (package cliauth does all of this) ends
// without losing a login, even if Ctrl-C comes when a refresh token is spent and its successor is
// not stored yet. A closed window, a dropped SSH session and a pipe into head end programs too.
func ExampleSource_Close() {
	// The first Ctrl-C ends ctx: requests stop. After it, a second one ends the program at once.
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM, syscall.SIGQUIT, syscall.SIGHUP)
	context.AfterFunc(ctx, stop)
	// A closed window or pipe does not: writing to it is an error, and the deferred Close runs.
	signal.Notify(make(chan os.Signal, 1), syscall.SIGHUP, syscall.SIGPIPE)
	os.Exit(run(ctx))
}

func run(ctx context.Context) int {
	source, err := transport.NewSource(config)
	if err != nil {
		return fail(err)
	}
	defer func() {
		// Not ctx, which has ended: a refresh in flight is waited for and stored. A provider that
		// has not answered by then is frozen or overloaded; a program that can wait longer should.
		ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
		defer cancel()
		if err := source.Close(ctx); err != nil {
			fmt.Fprintln(os.Stderr, err)
		}
	}()
	return work(ctx, source) // which calls neither os.Exit nor log.Fatal: they skip the deferred Close
}

func fail(err error) int {
	fmt.Fprintln(os.Stderr, err)
	return 1
}

func work(context.Context, *transport.Source) int { return 0 }
