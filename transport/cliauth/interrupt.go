package cliauth

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"sync"
	"syscall"
	"time"

	"github.com/stayauth/stayauth/tokencache"
	"github.com/stayauth/stayauth/transport/endpoint"
)

// A holding Endpoint keeps signals from ending the program between the moment when a refresh token
// is spent and that when its successor is stored. At other times signals do what they always do.
type holding struct {
	*endpoint.Endpoint
	flush func(context.Context) error // of the Source

	mu    sync.Mutex
	until chan struct{} // closed when signals do that again; nil: they do
}

// Refresh implements transport.Refresher. The flight that it is part of stores the result.
func (h *holding) Refresh(ctx context.Context, current *tokencache.Record) (*tokencache.Record, error) {
	h.hold()
	return h.Endpoint.Refresh(ctx, current)
}

func (h *holding) hold() {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.until != nil {
		return
	}
	h.until = make(chan struct{})
	ending, staying := make(chan os.Signal, 1), make(chan os.Signal, 1)
	notify(ending, os.Interrupt, syscall.SIGTERM, syscall.SIGQUIT, syscall.SIGHUP)
	// A window that is closed says so more than once, and takes with it what reads the output.
	notify(staying, syscall.SIGHUP, syscall.SIGPIPE)
	go func() {
		h.release(ending, staying)
		h.mu.Lock()
		defer h.mu.Unlock()
		close(h.until)
		h.until = nil
	}()
}

// wait waits until signals do what they always do, or until ctx is done.
func (h *holding) wait(ctx context.Context) {
	h.mu.Lock()
	until := h.until
	h.mu.Unlock()
	if until == nil {
		return
	}
	select {
	case <-until:
	case <-ctx.Done():
	}
}

func notify(c chan os.Signal, signals ...os.Signal) {
	for _, sig := range signals {
		if !signal.Ignored(sig) { // as by nohup
			signal.Notify(c, sig)
		}
	}
}

// release lets signals pass when the flight has ended, and everything is stored.
func (h *holding) release(ending, staying chan os.Signal) {
	defer signal.Stop(staying)
	stored := make(chan struct{})
	go func() {
		defer close(stored)
		// With a deadline Flush also waits for what cannot be stored now.
		ctx, cancel := context.WithTimeout(context.Background(), 24*time.Hour)
		defer cancel()
		h.flush(ctx)
	}()
	var got os.Signal
	select {
	case got = <-ending:
		signal.Stop(ending) // A second one does not wait.
		told := time.AfterFunc(300*time.Millisecond, func() {
			fmt.Fprintln(os.Stderr, "Storing your renewed login. To interrupt that could cost you the login.")
		})
		defer told.Stop()
		select {
		case <-stored:
		case <-time.After(patience):
		}
	case <-stored:
		signal.Stop(ending)
		select { // One may have come at the last moment.
		case got = <-ending:
		default:
			return
		}
	}
	signal.Stop(staying)
	if self, err := os.FindProcess(os.Getpid()); err != nil || self.Signal(got) != nil { // as on Windows
		os.Exit(130)
	}
}
