package bench

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"sync"
	"time"

	"cloud.google.com/go/auth"
	"cloud.google.com/go/auth/httptransport"
	"golang.org/x/oauth2"

	"github.com/stayauth/stayauth/transport"
	"github.com/stayauth/stayauth/transport/oauthtest"
)

// A client calls an API, with tokens from a server.
type client struct {
	name string
	life time.Duration // of an access token
	make func(ctx context.Context, srv *oauthtest.Server) (http.RoundTripper, error)
}

const (
	shortLife    = 5 * time.Second
	tokenLatency = 300 * time.Millisecond
)

// Those that keep tokens are told to renew them about as early as stayauth does: by
// default, both take a token of five seconds for expired from the start.
var clients = []client{
	{"no rotation", time.Hour, rotateStayauth},
	{"stayauth", shortLife, rotateStayauth},
	{"oauth2", shortLife, rotateOAuth2},
	{"google", shortLife, rotateGoogle},
}

func rotateStayauth(ctx context.Context, srv *oauthtest.Server) (http.RoundTripper, error) {
	source, err := newSource(ctx, srv, memory(), srv.RoundTripper(), srv.Login("ann"))
	if err != nil {
		return nil, err
	}
	go source.KeepFresh(ctx)
	return transport.New(transport.Config{Source: source, Origins: []string{srv.APIOrigin()}, Base: srv.Direct()})
}

func rotateOAuth2(_ context.Context, srv *oauthtest.Server) (http.RoundTripper, error) {
	login := srv.Login("ann")
	cfg := &oauth2.Config{ClientID: srv.ClientID(), ClientSecret: srv.ClientSecret(),
		Endpoint: oauth2.Endpoint{TokenURL: srv.TokenURL(), AuthStyle: oauth2.AuthStyleInHeader}}
	ctx := context.WithValue(context.Background(), oauth2.HTTPClient, &http.Client{Transport: srv.RoundTripper()})
	tok := &oauth2.Token{AccessToken: login.AccessToken, RefreshToken: login.RefreshToken, Expiry: login.Expiry}
	source := oauth2.ReuseTokenSourceWithExpiry(tok, cfg.TokenSource(ctx, tok), shortLife/10)
	return &oauth2.Transport{Source: source, Base: srv.Direct()}, nil
}

func rotateGoogle(_ context.Context, srv *oauthtest.Server) (http.RoundTripper, error) {
	provider, err := auth.New3LOTokenProvider(&auth.Options3LO{
		ClientID: srv.ClientID(), ClientSecret: srv.ClientSecret(), RefreshToken: srv.Login("ann").RefreshToken,
		AuthURL: srv.URL() + "/authorize", TokenURL: srv.TokenURL(), AuthStyle: auth.StyleInHeader, RedirectURL: "http://127.0.0.1/",
		EarlyTokenExpiry: shortLife / 3, Client: &http.Client{Transport: srv.RoundTripper()},
	})
	if err != nil {
		return nil, err
	}
	c := &http.Client{Transport: srv.Direct()}
	err = httptransport.AddAuthorizationMiddleware(c, auth.NewCredentials(&auth.CredentialsOptions{TokenProvider: provider}))
	return c.Transport, err
}

// A sample is one request: when it was made and what it took.
type sample struct{ at, took time.Duration }

// A Rotation holds the latencies of each client in each run.
type Rotation struct {
	P50, P99, P999, Max map[string][]time.Duration
	steps               map[string][][]time.Duration // see stepsOf, of each run
}

// Rotate lets goroutines call an API for a while, through one rotation of the token
// after the other. The clients take turns.
func Rotate(ctx context.Context, runs, goroutines int, length time.Duration) (*Rotation, error) {
	r := &Rotation{
		P50: map[string][]time.Duration{}, P99: map[string][]time.Duration{},
		P999: map[string][]time.Duration{}, Max: map[string][]time.Duration{},
		steps: map[string][][]time.Duration{},
	}
	for range runs {
		for _, c := range clients {
			samples, err := c.run(ctx, goroutines, length)
			if err != nil {
				return nil, fmt.Errorf("%s: %w", c.name, err)
			}
			took := make([]time.Duration, len(samples))
			for i, s := range samples {
				took[i] = s.took
			}
			took = sorted(took)
			r.P50[c.name] = append(r.P50[c.name], quantile(took, 0.5))
			r.P99[c.name] = append(r.P99[c.name], quantile(took, 0.99))
			r.P999[c.name] = append(r.P999[c.name], quantile(took, 0.999))
			r.Max[c.name] = append(r.Max[c.name], took[len(took)-1])
			r.steps[c.name] = append(r.steps[c.name], stepsOf(samples, length))
		}
	}
	return r, nil
}

func (c client) run(ctx context.Context, goroutines int, length time.Duration) ([]sample, error) {
	srv := oauthtest.New(oauthtest.Config{Policy: oauthtest.StrictFamily, AccessTTL: c.life, Latency: tokenLatency})
	defer srv.Close()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	rt, err := c.make(ctx, srv)
	if err != nil {
		return nil, err
	}
	if err := visit(rt, srv.APIURL()); err != nil { // so that all begin with a token
		return nil, err
	}
	all := make([][]sample, goroutines)
	errs := make([]error, goroutines)
	begun := time.Now()
	var work sync.WaitGroup
	for i := range goroutines {
		work.Go(func() {
			for time.Since(begun) < length && errs[i] == nil && ctx.Err() == nil {
				at := time.Since(begun)
				errs[i] = visit(rt, srv.APIURL())
				all[i] = append(all[i], sample{at, time.Since(begun) - at})
				time.Sleep(5*time.Millisecond + rand.N(10*time.Millisecond))
			}
		})
	}
	work.Wait()
	var samples []sample
	for _, s := range all {
		samples = append(samples, s...)
	}
	return samples, errors.Join(append(errs, ctx.Err())...)
}

// visit sends one request and reads the answer.
func visit(rt http.RoundTripper, url string) error {
	req, err := http.NewRequest(http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	resp, err := rt.RoundTrip(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("status %d", resp.StatusCode)
	}
	_, err = io.Copy(io.Discard, resp.Body)
	return err
}

// WriteTable writes the medians of the runs, as Markdown.
func (r *Rotation) WriteTable(w io.Writer) {
	fmt.Fprintln(w, "| | p50 | p99 | p99.9 | longest | p99.9 ÷ without rotation |\n|---|---|---|---|---|---|")
	for _, c := range clients {
		fmt.Fprintf(w, "| %s | %.3f ms | %.2f ms | %.1f ms | %.0f ms | %.2f |\n", c.name,
			milliseconds(Median(r.P50[c.name])), milliseconds(Median(r.P99[c.name])), milliseconds(Median(r.P999[c.name])), milliseconds(Median(r.Max[c.name])),
			Median(ratios(r.P999[c.name], r.P999["no rotation"])))
	}
}

// step is the resolution of the plot.
const step = 100 * time.Millisecond

// stepsOf returns, for each step, the 95th percentile of the latencies of the requests in
// progress.
func stepsOf(samples []sample, length time.Duration) []time.Duration {
	under := make([][]time.Duration, length/step)
	for _, s := range samples {
		for i := s.at / step; i <= (s.at+s.took)/step && int(i) < len(under); i++ {
			under[i] = append(under[i], s.took)
		}
	}
	steps := make([]time.Duration, len(under))
	for i, took := range under {
		steps[i] = quantile(sorted(took), 0.95)
	}
	return steps
}

// Plot returns the latencies over time, as medians of the runs.
func (r *Rotation) Plot() string {
	c := chart{
		title: "Latency while the token rotates: 95th percentile, in milliseconds",
		x:     axis{label: "seconds"},
		y:     axis{log: true, min: 0.001, max: 1000},
	}
	for _, s := range []struct{ client, name string }{{"oauth2", "x/oauth2"}, {"google", "google auth"}, {"stayauth", "stayauth"}} {
		line := series{name: s.name}
		runs := r.steps[s.client]
		for i := range runs[0] {
			var took []time.Duration
			for _, run := range runs {
				took = append(took, run[i])
			}
			line.points = append(line.points, point{(time.Duration(i) * step).Seconds(), milliseconds(Median(took))})
		}
		c.x.max = (time.Duration(len(runs[0])) * step).Seconds()
		c.series = append(c.series, line)
	}
	return c.svg()
}
