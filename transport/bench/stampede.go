package bench

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/stayauth/stayauth/transport"
	"github.com/stayauth/stayauth/transport/oauthtest"
)

// A Stampede is the result for many goroutines that find an expired token at once. The times
// are those until the last of them has what it waits for.
type Stampede struct {
	Goroutines    int
	TokenRequests []int
	Tokens        []time.Duration // from the answer of the provider until each has the new token
	Requests      []time.Duration // from the answer until the request of each has arrived at the API

	// Woken is the time from the closing of a channel until the requests of as many
	// goroutines, which only wait for that and know the token, have arrived.
	Woken []time.Duration
}

// Stampedes lets goroutines meet an expired token. The login is in sealed files.
func Stampedes(ctx context.Context, runs, goroutines int) (*Stampede, error) {
	s := &Stampede{Goroutines: goroutines}
	for range runs {
		for _, through := range []bool{false, true} {
			requests, took, err := stampede(ctx, goroutines, through)
			if err != nil {
				return nil, err
			}
			s.TokenRequests = append(s.TokenRequests, requests)
			if through {
				s.Requests = append(s.Requests, took)
			} else {
				s.Tokens = append(s.Tokens, took)
			}
		}
		took, err := woken(goroutines)
		if err != nil {
			return nil, err
		}
		s.Woken = append(s.Woken, took)
	}
	return s, nil
}

// wait is how long the provider takes, so that all are there to wait for it.
func wait(goroutines int) time.Duration { return time.Duration(goroutines) * 200 * time.Microsecond }

// stampede lets goroutines ask a Source for its token, or send requests through a
// Transport.
func stampede(ctx context.Context, goroutines int, through bool) (tokenRequests int, took time.Duration, err error) {
	dir, err := os.MkdirTemp("", "stayauth-bench-")
	if err != nil {
		return 0, 0, err
	}
	defer os.RemoveAll(dir)
	cache, err := onDisk(dir)
	if err != nil {
		return 0, 0, err
	}
	srv := oauthtest.New(oauthtest.Config{Policy: oauthtest.StrictFamily, Latency: wait(goroutines)})
	defer srv.Close()
	answered, last := newLatest(), newLatest()
	wire := srv.RoundTripper()
	provider := roundTripper(func(r *http.Request) (*http.Response, error) {
		defer answered.now()
		return wire.RoundTrip(r)
	})
	login := srv.Login("ann")
	login.Expiry = time.Now().Add(-time.Second)
	source, err := newSource(ctx, srv, cache, provider, login)
	if err != nil {
		return 0, 0, err
	}
	rt, err := transport.New(transport.Config{Source: source, Origins: []string{srv.APIOrigin()}, Base: marked{last}})
	if err != nil {
		return 0, 0, err
	}
	err = together(goroutines, func() error {
		if through {
			return visit(rt, srv.APIURL())
		}
		defer last.now()
		_, err := source.Token(context.Background())
		return err
	})
	return srv.Counts().TokenRequests, last.since(answered), err
}

// woken does only what cannot be avoided, without a Source.
func woken(goroutines int) (time.Duration, error) {
	closed, last := newLatest(), newLatest()
	done := make(chan struct{})
	time.AfterFunc(wait(goroutines), func() { closed.now(); close(done) })
	rt := floor{marked{last}}
	err := together(goroutines, func() error {
		return visit(roundTripper(func(r *http.Request) (*http.Response, error) {
			<-done
			return rt.RoundTrip(r)
		}), apiURL)
	})
	return last.since(closed), err
}

// together runs f in goroutines, and returns an error if one does.
func together(goroutines int, f func() error) error {
	failed := make(chan error, goroutines)
	var work sync.WaitGroup
	for range goroutines {
		work.Go(func() {
			if err := f(); err != nil {
				failed <- err
			}
		})
	}
	work.Wait()
	select {
	case err := <-failed:
		return err
	default:
		return nil
	}
}

// A latest is the latest of some moments.
type latest struct{ at *atomic.Int64 }

func newLatest() latest { return latest{new(atomic.Int64)} }

var epoch = time.Now() // what moments are counted from, by the monotonic clock

func (l latest) now() {
	for now := int64(time.Since(epoch)); ; {
		if old := l.at.Load(); now <= old || l.at.CompareAndSwap(old, now) {
			return
		}
	}
}

func (l latest) since(begin latest) time.Duration {
	return time.Duration(l.at.Load() - begin.at.Load())
}

// marked is a stub at which the moment of each request counts.
type marked struct{ latest }

func (m marked) RoundTrip(r *http.Request) (*http.Response, error) {
	m.now()
	return stub{}.RoundTrip(r)
}

// WriteTable writes the medians of the runs, as Markdown.
func (s *Stampede) WriteTable(w io.Writer) {
	fmt.Fprintln(w, "| goroutines | token requests | all have the token after the answer | all their requests have arrived | as many goroutines that wait for a channel |\n|---|---|---|---|---|")
	fmt.Fprintf(w, "| %d | %d | %.1f ms | %.1f ms | %.1f ms |\n", s.Goroutines, slices.Max(s.TokenRequests),
		milliseconds(Median(s.Tokens)), milliseconds(Median(s.Requests)), milliseconds(Median(s.Woken)))
}
