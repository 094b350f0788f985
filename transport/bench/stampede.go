package bench

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/stayauth/stayauth/transport"
	"github.com/stayauth/stayauth/transport/oauthtest"
)

// A Stampede is what came of many goroutines meeting an expired token at once.
type Stampede struct {
	TokenRequests []int
	Released      []time.Duration // from the answer of the provider to the last request
	Goroutines    int
}

// Stampedes lets goroutines meet an expired token. The login is in sealed files.
func Stampedes(ctx context.Context, runs, goroutines int) (*Stampede, error) {
	s := &Stampede{Goroutines: goroutines}
	for range runs {
		requests, released, err := stampede(ctx, goroutines)
		if err != nil {
			return nil, err
		}
		s.TokenRequests = append(s.TokenRequests, requests)
		s.Released = append(s.Released, released)
	}
	return s, nil
}

func stampede(ctx context.Context, goroutines int) (tokenRequests int, released time.Duration, err error) {
	dir, err := os.MkdirTemp("", "stayauth-bench-")
	if err != nil {
		return 0, 0, err
	}
	defer os.RemoveAll(dir)
	cache, err := onDisk(dir)
	if err != nil {
		return 0, 0, err
	}
	srv := oauthtest.New(oauthtest.Config{Policy: oauthtest.StrictFamily, Latency: time.Duration(goroutines) * 200 * time.Microsecond})
	defer srv.Close()
	var answered, last atomic.Int64 // since begun
	begun := time.Now()
	wire := srv.RoundTripper()
	provider := roundTripper(func(r *http.Request) (*http.Response, error) {
		resp, err := wire.RoundTrip(r)
		answered.Store(int64(time.Since(begun)))
		return resp, err
	})
	api := roundTripper(func(r *http.Request) (*http.Response, error) {
		for now := int64(time.Since(begun)); ; {
			if old := last.Load(); now <= old || last.CompareAndSwap(old, now) {
				return stub{}.RoundTrip(r)
			}
		}
	})
	login := srv.Login("ann")
	login.Expiry = time.Now().Add(-time.Second)
	source, err := newSource(ctx, srv, cache, provider, login)
	if err != nil {
		return 0, 0, err
	}
	rt, err := transport.New(transport.Config{Source: source, Origins: []string{srv.APIOrigin()}, Base: api})
	if err != nil {
		return 0, 0, err
	}
	failed := make(chan error, goroutines)
	var work sync.WaitGroup
	for range goroutines {
		work.Go(func() {
			if err := visit(rt, srv.APIURL()); err != nil {
				failed <- err
			}
		})
	}
	work.Wait()
	select {
	case err = <-failed:
	default:
	}
	return srv.Counts().TokenRequests, time.Duration(last.Load() - answered.Load()), err
}

// WriteTable writes the medians of the runs, as Markdown.
func (s *Stampede) WriteTable(w io.Writer) {
	fmt.Fprintf(w, "| goroutines | token requests | last one released after the answer |\n|---|---|---|\n| %d | %d | %.1f ms |\n",
		s.Goroutines, Median(s.TokenRequests), milliseconds(Median(s.Released)))
}
