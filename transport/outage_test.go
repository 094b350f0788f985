package transport_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stayauth/stayauth/tokencache"
	"github.com/stayauth/stayauth/transport"
	"github.com/stayauth/stayauth/transport/endpoint"
	"github.com/stayauth/stayauth/transport/internal/testkit"
	"github.com/stayauth/stayauth/transport/oauthtest"
)

// However long an outage lasts, several attempts fit into the rest of the life of a token
// that is good, so that it is replaced in time if it can be.
func TestAttemptsFitIntoTheLifeOfAToken(t *testing.T) {
	o, now := new(transport.Outage), transport.WallNow()
	for range 100 {
		for _, tt := range []struct{ left, longest time.Duration }{{time.Second, 5 * time.Second}, {time.Minute, 10 * time.Second}} {
			e := o.Fail(now, &transport.Error{Kind: transport.ErrUnavailable}, tt.left)
			if wait := e.RetryAt.Sub(now); wait > tt.longest {
				t.Fatalf("a token is good for %v, and the next attempt comes after %v", tt.left, wait)
			}
		}
	}
}

// Two hours of outage, one call a second.
func TestOutage(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name  string
		begin func(*oauthtest.Server)
	}{
		{"connections are cut", func(s *oauthtest.Server) { s.Fault("/token", 0, oauthtest.Drop) }},
		{"503", func(s *oauthtest.Server) { s.Fault("/token", 0, oauthtest.Status(503, 0)) }},
		{"503 with Retry-After", func(s *oauthtest.Server) { s.Fault("/token", 0, oauthtest.Status(503, time.Minute)) }},
		{"429", func(s *oauthtest.Server) { s.Fault("/token", 0, oauthtest.Status(429, 2*time.Minute)) }},
		{"a captive portal", func(s *oauthtest.Server) { s.Fault("/token", 0, oauthtest.HTML) }},
	} {
		t.Run(tt.name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				w := newWorld(t, oauthtest.Config{Policy: oauthtest.StrictFamily, AccessTTL: time.Hour})
				s := w.source()
				w.login(s, "ann")
				c := w.client(s)
				expiry := w.stored(s).Expiry
				time.Sleep(50 * time.Minute)

				tt.begin(w.srv)
				end := time.Now().Add(2 * time.Hour)
				var last time.Time // when the next attempt was promised
				for time.Now().Before(end) {
					begun := time.Now()
					resp, err := c.Get(w.srv.APIURL())
					switch good := begun.Before(expiry.Add(-11 * time.Second)); {
					case good && err != nil:
						t.Fatalf("%v before the expiry: %v", expiry.Sub(begun), err)
					case err == nil:
						resp.Body.Close()
					default:
						e, ok := errors.AsType[*transport.Error](err)
						if !ok || errors.Is(err, transport.ErrLoginRequired) || e.RetryAt.IsZero() {
							t.Fatalf("%v: an error without a time: %v", begun, err)
						}
						// Only the call that makes the attempt may take a moment.
						if took := time.Since(begun); begun.Before(last) && took > 0 {
							t.Fatalf("waited for %v, although the next attempt is in %v", took, last.Sub(begun))
						}
						last = e.RetryAt
					}
					time.Sleep(time.Second)
				}
				if n := w.srv.Counts().TokenRequests; n >= 2*3600/12 || n < 1 {
					t.Errorf("%d token requests in two hours of outage", n)
				}

				w.srv.Heal()
				for {
					resp, err := c.Get(w.srv.APIURL())
					if err == nil {
						resp.Body.Close()
						break
					}
					if time.Now().After(last.Add(time.Second)) {
						t.Fatalf("%v after the promised attempt at %v: %v", time.Since(last), last, err)
					}
					time.Sleep(time.Second)
				}
				synctest.Wait() // until the events are told
				if n := w.seen(transport.EventOutage); n != 1 {
					t.Errorf("%d outages were reported", n)
				}
				if n := w.seen(transport.EventRecovered); n != 1 {
					t.Errorf("%d recoveries were reported", n)
				}
				if c := w.srv.Counts(); c.Reuses != 0 || c.Rotations != 1 {
					t.Errorf("%d reuses, %d rotations", c.Reuses, c.Rotations)
				}
			})
		})
	}
}

// What the provider's answer means for the login: kept in every case.
func TestAFailedRefreshKeepsTheLogin(t *testing.T) {
	for _, tt := range []struct {
		name  string
		fault oauthtest.Fault
		kind  transport.Kind
	}{
		{"dropped", oauthtest.Drop, transport.ErrAmbiguous},
		{"truncated", oauthtest.Truncate, transport.ErrAmbiguous},
		{"503", oauthtest.Status(503, 0), transport.ErrAmbiguous},
		{"429", oauthtest.Status(429, 0), transport.ErrUnavailable},
		{"HTML", oauthtest.HTML, transport.ErrAmbiguous},
		{"invalid_client", oauthtest.Answer(401, "application/json", `{"error":"invalid_client"}`), transport.ErrMisconfigured},
		{"redirect", oauthtest.Redirect(307, "https://elsewhere.test/token"), transport.ErrMisconfigured},
		{"not found", oauthtest.Answer(404, "text/plain", "no such page"), transport.ErrMisconfigured},
		{"endless", oauthtest.Endless, transport.ErrAmbiguous},
		{"hangs", oauthtest.Hang, transport.ErrAmbiguous},
	} {
		t.Run(tt.name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				w := newWorld(t, oauthtest.Config{Policy: oauthtest.KeepOld})
				s := w.source()
				tokens := w.login(s, "ann")
				time.Sleep(2 * time.Hour)
				w.srv.Fault("/token", 0, tt.fault)
				_, err := s.Token(t.Context())
				if !errors.Is(err, tt.kind) {
					t.Fatalf("got %v, want kind %q", err, tt.kind)
				}
				if r := w.stored(s); string(r.RefreshToken) != tokens.RefreshToken && string(r.RefreshToken) != w.srv.Current("ann").RefreshToken || r.Tombstone != nil {
					t.Errorf("the stored login was damaged: %+v", r)
				}
				w.srv.Heal()
				time.Sleep(10 * time.Minute)
				if _, err := s.Token(t.Context()); err != nil {
					t.Errorf("afterwards: %v", err)
				}
				if strays := w.srv.Strays(); len(strays) != 0 {
					t.Errorf("requests went elsewhere: %v", strays)
				}
			})
		})
	}
}

// An answer that was lost after the provider had rotated: the old refresh token
// is presented again at once, while the provider still takes it.
func TestALostAnswer(t *testing.T) {
	for _, tt := range []struct {
		name  string
		fault oauthtest.Fault
	}{
		{"dropped", oauthtest.AfterCommit(oauthtest.Drop)},
		{"503", oauthtest.AfterCommit(oauthtest.Status(503, 0))},
		{"truncated", oauthtest.Truncate},
	} {
		t.Run(tt.name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				w := newWorld(t, oauthtest.Config{Policy: oauthtest.Grace, GracePeriod: 10 * time.Second})
				s := w.source()
				w.login(s, "ann")
				time.Sleep(2 * time.Hour)
				w.srv.Fault("/token", 1, tt.fault)
				if _, err := s.Token(t.Context()); err != nil {
					t.Fatal(err)
				}
				w.wantCounts(2, 0)
			})
		})
	}
}

// The same without any grace: the login is lost, and the error says why.
func TestALostAnswerWithoutGraceIsExplained(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newWorld(t, oauthtest.Config{Policy: oauthtest.StrictFamily})
		s := w.source()
		w.login(s, "ann")
		time.Sleep(2 * time.Hour)
		w.srv.Fault("/token", 1, oauthtest.AfterCommit(oauthtest.Drop))
		_, err := s.Token(t.Context())
		if !errors.Is(err, transport.ErrLoginRequired) || !strings.Contains(err.Error(), "interrupted") {
			t.Errorf("got %v", err)
		}
		if tomb := w.stored(s).Tombstone; tomb == nil || !tomb.Interrupted {
			t.Errorf("tombstone %+v", tomb)
		}
		w.wantCounts(2, 1)
	})
}

// A machine that was offline for long, and then loses the answer of its first
// request: the old refresh token is presented again at once, as ever. The grace is
// over by the time that the back-off of the outage would allow.
func TestALostAnswerAfterAnOutage(t *testing.T) {
	for _, tt := range []struct {
		name  string
		begin func(*world, *troubled)
	}{
		{"of the provider", func(w *world, _ *troubled) { w.srv.Fault("/token", 0, oauthtest.Status(429, 0)) }},
		{"of the store", func(_ *world, store *troubled) {
			store.fail(func(op string, _ int32) error {
				if op == "save" {
					return tokencache.ErrUnavailable
				}
				return nil
			})
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				w := newWorld(t, oauthtest.Config{Policy: oauthtest.Grace, GracePeriod: 5 * time.Second})
				store := &troubled{Memory: new(tokencache.Memory)}
				w.store = store
				s := w.source()
				w.login(s, "ann")
				time.Sleep(2 * time.Hour)
				tt.begin(w, store)
				for end := time.Now().Add(30 * time.Minute); time.Now().Before(end); time.Sleep(time.Second) {
					if _, err := s.Token(t.Context()); err == nil {
						t.Fatal("no outage")
					}
				}
				w.srv.Heal()
				store.heal()
				w.srv.Fault("/token", 1, oauthtest.AfterCommit(oauthtest.Drop))
				time.Sleep(10 * time.Minute)
				if _, err := s.Token(t.Context()); err != nil {
					t.Error(err)
				}
				if c := w.srv.Counts(); c.Reuses != 0 || c.Replays != 1 {
					t.Errorf("%d reuses, %d replays", c.Reuses, c.Replays)
				}
			})
		})
	}
}

// Two hours without a network: nothing is sent, so nothing is presented twice, and
// the first attempt after it succeeds.
func TestOffline(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newWorld(t, oauthtest.Config{Policy: oauthtest.StrictFamily})
		var offline atomic.Bool
		var dials atomic.Int32
		wire := w.srv.RoundTripper()
		dial := wire.DialTLSContext
		wire.DialTLSContext = func(ctx context.Context, network, addr string) (net.Conn, error) {
			if dials.Add(1); offline.Load() {
				return nil, &net.OpError{Op: "dial", Net: network, Err: syscall.ENETUNREACH}
			}
			return dial(ctx, network, addr)
		}
		s := w.source(func(c *transport.SourceConfig) { c.Refresher.(*endpoint.Endpoint).Base = wire })
		w.login(s, "ann")
		time.Sleep(time.Hour)
		offline.Store(true)
		var last *transport.Error
		for end := time.Now().Add(2 * time.Hour); time.Now().Before(end); time.Sleep(time.Second) {
			_, err := s.Token(t.Context())
			var ok bool
			if last, ok = errors.AsType[*transport.Error](err); !ok || last.Kind != transport.ErrUnavailable || !errors.Is(err, syscall.ENETUNREACH) || last.RetryAt.IsZero() {
				t.Fatalf("got %v", err)
			}
		}
		if n := dials.Load(); n < 30 || n > 2*3600/8 {
			t.Errorf("%d attempts in two hours", n)
		}
		if r := w.stored(s); r.Attempt != nil {
			t.Errorf("the journal says %+v, and nothing was sent", r.Attempt)
		}
		offline.Store(false)
		time.Sleep(time.Until(last.RetryAt))
		if _, err := s.Token(t.Context()); err != nil {
			t.Errorf("at the promised time: %v", err)
		}
		w.wantCounts(1, 0)
	})
}

// A provider, or what stands before it, that leaves questions without an answer for ever answers
// token requests all the same. Callers that go on asking do not put the next attempt off: it is
// due when the pause since the last one is over, whatever became of the questions meanwhile. But
// as long as a lost request may still be answered, there is none.
func TestQuestionsThatHang(t *testing.T) {
	t.Parallel()
	const down, question, interval = 10 * time.Minute, 15 * time.Second, 3 * time.Second
	for name, bound := range map[string]time.Duration{ // after the outage
		"dead port": transport.LongestPause,
		"503":       transport.LongestSilence, // of one that was lost at the end of the outage
		"cut":       transport.LongestSilence,
	} {
		for _, logins := range []int{1, 10} { // behind one gate
			t.Run(fmt.Sprint(name, "/", logins), func(t *testing.T) {
				for range 3 {
					bubble(t, func(t *testing.T) {
						w := newWorld(t, oauthtest.Config{Policy: oauthtest.StrictFamily})
						base := w.base
						w.base = testkit.RoundTripFunc(func(r *http.Request) (*http.Response, error) {
							if r.Method == http.MethodHead {
								<-r.Context().Done()
								return nil, r.Context().Err()
							}
							return base.RoundTrip(r)
						})
						p, c := w.pool(2 * logins)
						names := w.accounts(p, logins)
						time.Sleep(2 * time.Hour)
						outages[name].begin(w.srv)
						back := time.Now().Add(down)
						time.AfterFunc(down, func() { outages[name].end(w.srv) })
						var callers sync.WaitGroup
						for _, name := range names {
							callers.Go(func() {
								for {
									if _, err := w.whoami(c, name); err == nil || time.Since(back) > 24*time.Hour {
										return
									}
									time.Sleep(interval)
								}
							})
						}
						callers.Wait()
						if took := time.Since(back); took > bound+transport.Soonest+question+transport.MaxSpread+2*interval { // Callers come back by then.
							t.Errorf("good again after %v", took)
						}
						if c := w.srv.Counts(); c.Reuses != 0 || c.Rotations != logins {
							t.Errorf("%d rotations, %d reuses", c.Rotations, c.Reuses)
						}
						if err := p.Close(t.Context()); err != nil {
							t.Error(err)
						}
					})
				}
			})
		}
	}
}
