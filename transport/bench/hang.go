package bench

import (
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/stayauth/stayauth/tokencache"
	"github.com/stayauth/stayauth/transport"
	"github.com/stayauth/stayauth/transport/oauthtest"
)

// A Hang compares requests with a good token that cannot be renewed, because the provider
// hangs, with requests that need no refresh. They take turns, over TCP.
type Hang struct {
	Calm, Hung    []time.Duration // sorted: until the body was read
	Failed        int
	TokenRequests int
}

// MeasureHang makes n requests of each kind, evenly spread over the time for which the provider
// hangs. A client waits for a response until the timeout.
func MeasureHang(ctx context.Context, n int, hang, timeout time.Duration) (*Hang, error) {
	const workers = 4
	srv := oauthtest.New(oauthtest.Config{Policy: oauthtest.StrictFamily, AccessTTL: 24 * time.Hour})
	if err := srv.Start(); err != nil {
		return nil, err
	}
	defer srv.Close()
	base := &http.Transport{MaxIdleConnsPerHost: 2 * workers}
	defer base.CloseIdleConnections()
	client := func(account string, due time.Time) (*http.Client, *transport.Source, error) {
		login := srv.Login(account)
		source, err := newSource(ctx, srv, memory(), base, login)
		if err != nil {
			return nil, nil, err
		}
		err = source.Login(ctx, &tokencache.Record{
			AccessToken: tokencache.Secret(login.AccessToken), RefreshToken: tokencache.Secret(login.RefreshToken),
			ObtainedAt: time.Now(), Expiry: login.Expiry, RefreshAt: due,
		})
		if err != nil {
			return nil, nil, err
		}
		rt, err := transport.New(transport.Config{Source: source, Origins: []string{srv.APIOrigin()}, Base: base})
		return &http.Client{Transport: rt, Timeout: timeout}, source, err
	}
	calm, _, err := client("calm", time.Now().Add(time.Hour))
	if err != nil {
		return nil, err
	}
	hung, source, err := client("hung", time.Now())
	if err != nil {
		return nil, err
	}
	h := new(Hang)
	var mu sync.Mutex
	call := func(client *http.Client, times *[]time.Duration) {
		begun := time.Now()
		resp, err := client.Get(srv.APIURL())
		if err == nil {
			_, err = io.Copy(io.Discard, resp.Body)
			if resp.StatusCode != http.StatusOK {
				err = fmt.Errorf("status %d", resp.StatusCode)
			}
			go resp.Body.Close() // which sees to the refresh for some seconds
		}
		took := time.Since(begun)
		mu.Lock()
		defer mu.Unlock()
		if *times = append(*times, took); err != nil {
			h.Failed++
		}
	}
	srv.Freeze()
	begun := time.Now()
	var work sync.WaitGroup
	for w := range workers {
		work.Go(func() {
			for i := w; i < n && ctx.Err() == nil; i += workers {
				time.Sleep(time.Until(begun.Add(hang * time.Duration(i) / time.Duration(n))))
				// Not always in the same order, or one kind would always find
				// the processor awake.
				if rand.IntN(2) == 0 {
					call(calm, &h.Calm)
					call(hung, &h.Hung)
				} else {
					call(hung, &h.Hung)
					call(calm, &h.Calm)
				}
			}
		})
	}
	work.Wait()
	srv.Thaw()
	if err := source.Close(ctx); err != nil {
		return nil, err
	}
	slices.Sort(h.Calm)
	slices.Sort(h.Hung)
	h.TokenRequests = srv.Counts().TokenRequests
	return h, ctx.Err()
}

// WriteTable writes the comparison, as Markdown.
func (h *Hang) WriteTable(w io.Writer) {
	fmt.Fprintln(w, "| requests of each kind | failed | p50: hang ÷ calm | p99 | p99.9 | token requests |\n|---|---|---|---|---|---|")
	ratio := func(q float64) float64 { return float64(quantile(h.Hung, q)) / float64(quantile(h.Calm, q)) }
	fmt.Fprintf(w, "| %d | %d | %.2f | %.2f | %.2f | %d |\n", len(h.Hung), h.Failed, ratio(0.5), ratio(0.99), ratio(0.999), h.TokenRequests)
}
