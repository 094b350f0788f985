package transport_test

import (
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stayauth/stayauth/transport/internal/testkit"
	"github.com/stayauth/stayauth/transport/oauthtest"
)

// Three days, three Sources that share nothing but the store, a thousand callers:
// one token request per rotation period, and no refresh token spent twice.
func TestThreeDaysOfTraffic(t *testing.T) {
	t.Parallel()
	bubble(t, func(t *testing.T) {
		const calls, span = 216, 3 * day
		callers := testkit.Pick(250, 1000)
		w := newWorld(t, oauthtest.Config{Policy: oauthtest.StrictFamily, AccessTTL: time.Hour, Latency: 300 * time.Millisecond})
		w.base = w.srv.Direct()
		var clients []*http.Client
		for i := range 3 {
			s := w.source()
			if i == 0 {
				w.login(s, "ann")
			}
			clients = append(clients, w.client(s))
		}
		var wg sync.WaitGroup
		var failed atomic.Int32
		for i := range callers {
			wg.Go(func() {
				time.Sleep(span / calls * time.Duration(i) / time.Duration(callers))
				for range calls {
					resp, err := clients[i%len(clients)].Get(w.srv.APIURL())
					if err != nil || resp.StatusCode != 200 {
						failed.Add(1)
						continue
					}
					resp.Body.Close()
					time.Sleep(span / calls)
				}
			})
		}
		wg.Wait()
		c := w.srv.Counts()
		t.Logf("%d API calls, %d failed, %d token requests, %d reuses", c.APICalls, failed.Load(), c.TokenRequests, c.Reuses)
		if c.APICalls != callers*calls || failed.Load() != 0 || c.APIRefused != 0 {
			t.Errorf("%d calls, of which %d failed and %d were refused", c.APICalls, failed.Load(), c.APIRefused)
		}
		// A period lasts from 55 minutes to 56, and the calls that end it come seconds
		// apart.
		if lo, hi := int(span/(57*time.Minute)), int(span/(55*time.Minute)); c.TokenRequests < lo || c.TokenRequests > hi || c.Rotations != c.TokenRequests {
			t.Errorf("%d token requests, %d rotations; want both the same, %d to %d", c.TokenRequests, c.Rotations, lo, hi)
		}
		if c.Reuses != 0 || c.Replays != 0 {
			t.Errorf("%d reuses, %d replays", c.Reuses, c.Replays)
		}
	})
}

// The same three processes without calls in between refresh nothing; with
// KeepFresh they do, and share the work.
func TestKeepFresh(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newWorld(t, oauthtest.Config{Policy: oauthtest.StrictFamily, AccessTTL: time.Hour, Latency: time.Second})
		var wg sync.WaitGroup
		ctx, cancel := contextWithCancel(t)
		for i := range 3 {
			s := w.source()
			if i == 0 {
				w.login(s, "ann")
			}
			wg.Go(func() { s.KeepFresh(ctx) })
		}
		time.Sleep(day)
		cancel()
		wg.Wait()
		if c := w.srv.Counts(); c.TokenRequests < 24 || c.TokenRequests > 27 || c.Reuses != 0 {
			t.Errorf("%d token requests, %d reuses in a day of one-hour tokens", c.TokenRequests, c.Reuses)
		}
		// No caller ever waits.
		s := w.source()
		begun := time.Now()
		if _, err := s.Token(t.Context()); err != nil || time.Since(begun) != 0 {
			t.Errorf("%v after %v", err, time.Since(begun))
		}
	})
}
