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
	until chan struct{} // closed when the flight has ended; nil: there is none
	again bool          // another Refresh has begun since
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
		h.again = true
		return
	}
	h.until = make(chan struct{})
	process.hold()
	go func() {
		for h.stored() {
		}
	}()
}

// stored waits until the flight has ended, and everything is stored. It reports whether another
// one has begun by then.
func (h *holding) stored() (another bool) {
	// With a deadline Flush also waits for what cannot be stored now.
	ctx, cancel := context.WithTimeout(context.Background(), 24*time.Hour)
	defer cancel()
	h.flush(ctx)
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.again {
		h.again = false
		return true
	}
	process.release()
	close(h.until)
	h.until = nil
	return false
}

// wait waits until the flight of h has ended and a signal that was held meanwhile has reached the
// program, unless another Client still holds it, or until ctx is done.
func (h *holding) wait(ctx context.Context) {
	h.mu.Lock()
	until := h.until
	h.mu.Unlock()
	for _, c := range []<-chan struct{}{until, process.passing()} {
		if c == nil {
			continue
		}
		select {
		case <-c:
		case <-ctx.Done():
		}
	}
}

// process holds the signals for all Clients. It is a variable because signals are for the whole
// process: a Client that passed one on while another still refreshes would end the login of that.
var process signals

// signals are those that end a program, and that pass only while no flight is under way.
type signals struct {
	mu              sync.Mutex
	flights         int
	ending, staying chan os.Signal
	stored          chan struct{} // closed when flights is 0 again
	passed          chan struct{} // closed when a signal that was held has been sent again
}

func (s *signals) hold() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.flights++; s.flights > 1 {
		return
	}
	s.ending, s.staying = make(chan os.Signal, 1), make(chan os.Signal, 1)
	s.stored, s.passed = make(chan struct{}), make(chan struct{})
	notify(s.ending, os.Interrupt, syscall.SIGTERM, syscall.SIGQUIT, syscall.SIGHUP)
	// A window that is closed says so more than once, and takes with it what reads the output.
	notify(s.staying, syscall.SIGHUP, syscall.SIGPIPE)
	go pass(s.ending, s.staying, s.stored, s.passed)
}

// release stops holding signals if no flight is left. The next one to hold them then gets none
// that pass has already got.
func (s *signals) release() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.flights--; s.flights == 0 {
		signal.Stop(s.ending)
		signal.Stop(s.staying)
		close(s.stored)
	}
}

// passing returns a channel that is closed when the last signal has been sent again, and nil if
// signals are held now, or never were.
func (s *signals) passing() <-chan struct{} {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.flights > 0 {
		return nil
	}
	return s.passed
}

func notify(c chan os.Signal, signals ...os.Signal) {
	for _, sig := range signals {
		if !signal.Ignored(sig) { // as by nohup
			signal.Notify(c, sig)
		}
	}
}

// pass sends a signal that comes before everything is stored once more when it is.
func pass(ending, staying chan os.Signal, stored <-chan struct{}, passed chan<- struct{}) {
	defer close(passed)
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
