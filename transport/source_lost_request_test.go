package transport_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
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

// A request that arrives later than anybody can wait for ends the login, and the process
// that had made up for it has got a token meanwhile, which is the next to be refused. All
// who are told to log in again are told that an interrupted refresh may be the reason; not
// if that was long ago, or if the provider has no reason to take it for a reuse.
func TestALateRequestThatEndsTheLoginIsNamed(t *testing.T) {
	for _, tt := range []struct {
		name   string
		policy oauthtest.Policy
		late   bool          // the request arrives; otherwise the login is revoked
		ttl    time.Duration // after which the loss shows
		more   int           // refreshes in between
		named  bool
	}{
		{"late", oauthtest.StrictFamily, true, 4 * time.Minute, 0, true},
		{"later still", oauthtest.StrictFamily, true, time.Minute, 2, true},
		{"revoked hours later", oauthtest.StrictFamily, false, time.Hour, 2, false},
		{"revoked after a token's life", oauthtest.StrictFamily, false, 10 * time.Minute, 0, false},
		{"without rotation", oauthtest.NoRotation, false, time.Minute, 0, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				w := newWorld(t, oauthtest.Config{Policy: tt.policy, AccessTTL: tt.ttl})
				w.login(w.source(), "ann")
				time.Sleep(2 * time.Hour)
				dead := w.source()
				cur, v, err := dead.Cfg().Cache.Load(t.Context(), dead.Key())
				if err != nil {
					t.Fatal(err)
				}
				began := time.Now()
				if _, err := dead.Prepare(t.Context(), cur, v); err != nil {
					t.Fatal(err)
				}
				for range 1 + tt.more {
					if _, err := w.source().Token(t.Context()); err != nil {
						t.Fatal(err)
					}
					time.Sleep(tt.ttl)
				}
				if tt.late {
					if _, err := dead.Cfg().Refresher.Refresh(t.Context(), cur); err == nil {
						t.Fatal("the provider forgives")
					}
				} else {
					w.srv.RevokeFamily(w.srv.Current("ann").RefreshToken)
				}
				for range 2 { // The second learns it from the first.
					_, err = w.source().Token(t.Context())
					e, ok := errors.AsType[*transport.Error](err)
					if !ok || e.Kind != transport.ErrLoginRequired {
						t.Fatalf("got %v", err)
					}
					if named := strings.Contains(e.Remedy, "perhaps a refresh that was interrupted at "+began.UTC().Format(time.RFC3339)); named != tt.named || e.ReuseSuspected != tt.named {
						t.Errorf("reuse suspected %v, remedy %q", e.ReuseSuspected, e.Remedy)
					}
				}
			})
		})
	}
}
