package transport

import (
	"context"
	"errors"
	"math"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stayauth/stayauth/tokencache"
	"github.com/stayauth/stayauth/transport/oauthtest"
)

// setClock does what setting the wall clock forward does, to the store and to Sources
// that are running. Simulated time cannot jump, so all times that they remember are set
// back instead: a Source compares the wall clock with nothing else. Timers do not notice,
// as they do not in reality, because they follow the monotonic clock.
func (w *world) setClock(forward time.Duration, sources ...*Source) {
	shift := func(t *time.Time) {
		if !t.IsZero() {
			*t = t.Add(-forward)
		}
	}
	shiftRecord := func(r *tokencache.Record) {
		for _, t := range []*time.Time{&r.AuthorizedAt, &r.ObtainedAt, &r.Expiry, &r.RefreshAt, &r.RefreshExpiry, &r.ForcedAt} {
			shift(t)
		}
		if r.Attempt != nil {
			shift(&r.Attempt.At)
		}
	}
	shiftNano := func(t *int64) {
		if *t != 0 && *t != math.MinInt64 && *t != math.MaxInt64 {
			*t -= int64(forward)
		}
	}
	s := sources[0]
	r, v, err := s.cfg.Cache.Load(w.t.Context(), s.key())
	if err != nil {
		w.t.Fatal(err)
	}
	shiftRecord(r)
	if _, err := s.cfg.Cache.Save(w.t.Context(), s.key(), r, v); err != nil {
		w.t.Fatal(err)
	}
	for _, s := range sources {
		s.mu.Lock()
		if cur := s.cur.Load(); cur != nil {
			c := *cur
			c.rec = cur.rec.Clone()
			shiftRecord(c.rec)
			shift(&c.expiry)
			for _, t := range []*int64{&c.notBefore, &c.refreshAt, &c.useBefore} {
				shiftNano(t)
			}
			s.cur.Store(&c)
		}
		if s.outage != nil {
			e := *s.outage
			shift(&e.RetryAt)
			s.outage = &e
		}
		shiftNano(&s.lookAt)
		s.mu.Unlock()
	}
}

// The clock is set, a day forward or back, while several processes use a login: no call
// fails, one refresh makes all well, and nobody asks more often than that.
func TestTheClockIsSet(t *testing.T) {
	for _, tt := range []struct {
		name    string
		forward time.Duration
	}{{"a day forward", day}, {"a day back", -day}, {"ten minutes back", -10 * time.Minute}, {"half a minute back", -30 * time.Second}} {
		for _, age := range []time.Duration{0, 20 * time.Minute} {
			t.Run(tt.name+", token of "+age.String(), func(t *testing.T) {
				bubble(t, func(t *testing.T) {
					w := newWorld(t, oauthtest.Config{Policy: oauthtest.StrictFamily})
					sources := []*Source{w.source(), w.source(), w.source()}
					w.login(sources[0], "ann")
					ctx, cancel := context.WithCancel(t.Context())
					var wg sync.WaitGroup
					wg.Go(func() { sources[2].KeepFresh(ctx) })
					defer wg.Wait()
					defer cancel()
					time.Sleep(age)
					use := func(span, pause time.Duration) {
						for end := time.Now().Add(span); time.Now().Before(end); time.Sleep(pause) {
							for _, s := range sources[:2] {
								if status, _ := get(t, w.client(s), w.srv.APIURL()); status != 200 {
									t.Fatalf("status %d", status)
								}
							}
						}
					}
					use(time.Second, time.Second)
					w.setClock(tt.forward, sources...)
					use(time.Minute, time.Second)
					use(10*time.Minute, 20*time.Second)
					// A token that has expired, or that nobody can have obtained yet.
					want := 0
					if tt.forward > time.Hour || age+tt.forward < -clockTolerance {
						want = 1
					}
					w.wantCounts(want, 0)
					use(day, 5*time.Minute)
					if c := w.srv.Counts(); c.Reuses != 0 || c.TokenRequests < 20 || c.TokenRequests > 35 {
						t.Errorf("in a day, %d token requests, %d reuses", c.TokenRequests, c.Reuses)
					}
				})
			})
		}
	}
}

// The same in an outage: it ends as soon as the provider is back, at the latest when the
// longest wait is over that there is, although the time of the next attempt says nothing
// any more.
func TestTheClockIsSetInAnOutage(t *testing.T) {
	for name, forward := range map[string]time.Duration{"a day forward": day, "a day back": -day} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				w := newWorld(t, oauthtest.Config{Policy: oauthtest.StrictFamily})
				s := w.source()
				w.login(s, "ann")
				time.Sleep(2 * time.Hour)
				w.srv.Fault("/token", 0, oauthtest.Status(429, maxRetryAfter))
				if _, err := s.Token(t.Context()); !errors.Is(err, ErrUnavailable) {
					t.Fatal(err)
				}
				synctest.Wait()
				w.setClock(forward, s)
				for range 60 {
					s.Token(t.Context())
					time.Sleep(time.Second)
				}
				// Its wish is asked for once more, and then heeded.
				w.wantCounts(2, 0)
				w.srv.Heal()
				time.Sleep(maxRetryAfter)
				if _, err := s.Token(t.Context()); err != nil {
					t.Error(err)
				}
				synctest.Wait() // for a refresh in the background
				w.wantCounts(3, 0)
			})
		})
	}
}
