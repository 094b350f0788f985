package transport_test

import (
	"bytes"
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/stayauth/stayauth/tokencache"
	"github.com/stayauth/stayauth/transport"
	"github.com/stayauth/stayauth/transport/oauthtest"
)

// The request of a process that has just died may still be under way. The next
// process does not race with it: it waits a moment before it presents the same
// refresh token.
func TestAnInterruptedRefreshIsRepeatedAfterAMoment(t *testing.T) {
	for _, tt := range []struct{ age, wait time.Duration }{
		{0, time.Second}, {700 * time.Millisecond, 300 * time.Millisecond}, {time.Minute, 0}, {-time.Hour, time.Second},
	} {
		bubble(t, func(t *testing.T) {
			w := newWorld(t, oauthtest.Config{Policy: oauthtest.SecondToLastKills})
			s := w.source()
			w.login(s, "ann")
			time.Sleep(2 * time.Hour)
			r, v, err := s.Cfg().Cache.Load(t.Context(), s.Key())
			if err != nil {
				t.Fatal(err)
			}
			r.Attempt = &tokencache.Attempt{At: transport.WallNow().Add(-tt.age), PID: 1}
			if _, err := s.Cfg().Cache.Save(t.Context(), s.Key(), r, v); err != nil {
				t.Fatal(err)
			}
			begun := time.Now()
			if _, err := s.Token(t.Context()); err != nil {
				t.Fatal(err)
			}
			if d := time.Since(begun); d != tt.wait {
				t.Errorf("a note of %v ago: waited %v, want %v", tt.age, d, tt.wait)
			}
			if r := w.stored(s); r.Attempt != nil {
				t.Error("the note is still there")
			}
		})
	}
}

// brokenButReceived breaks the connection of a request, which the provider deals with
// all the same, some time later. Proxies do that.
func brokenButReceived(later time.Duration) oauthtest.Fault {
	return func(endpoint http.Handler) http.Handler {
		return http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
			body, err := io.ReadAll(r.Body)
			if err != nil {
				panic(err)
			}
			r = r.Clone(context.Background())
			r.Body = io.NopCloser(bytes.NewReader(body))
			go func() {
				time.Sleep(later)
				endpoint.ServeHTTP(httptest.NewRecorder(), r)
			}()
			panic(http.ErrAbortHandler)
		})
	}
}

// A request whose connection broke may arrive after the one that repeats it, and the
// provider would take that for the older one. So it is not repeated before it has been
// dealt with, neither by this process nor by the next.
func TestARequestThatArrivesLate(t *testing.T) {
	const late = 700 * time.Millisecond
	for _, tt := range []struct {
		name string
		next bool
	}{{"of this process", false}, {"of the process before", true}} {
		t.Run(tt.name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				w := newWorld(t, oauthtest.Config{Policy: oauthtest.SecondToLastKills})
				s := w.source()
				w.login(s, "ann")
				defer time.Sleep(late) // until the last one has arrived
				for n := range 20 {
					time.Sleep(2 * time.Hour)
					w.srv.Fault("/token", 1, brokenButReceived(late))
					if tt.next { // The first one learns no more than that.
						w.srv.Fault("/token", 1, oauthtest.Drop)
					}
					_, err := s.Token(t.Context())
					if tt.next {
						w.srv.Heal()
						s = w.source()
						_, err = s.Token(t.Context())
					}
					if err != nil {
						t.Fatalf("round %d: %v", n, err)
					}
				}
				if c := w.srv.Counts(); c.Reuses != 0 || c.Replays != 20 {
					t.Errorf("%d reuses, %d replays", c.Reuses, c.Replays)
				}
			})
		})
	}
}
