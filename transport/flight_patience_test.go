package transport_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stayauth/stayauth/transport"
	"github.com/stayauth/stayauth/transport/endpoint"
	"github.com/stayauth/stayauth/transport/internal/sleep"
	"github.com/stayauth/stayauth/transport/internal/testkit"
	"github.com/stayauth/stayauth/transport/oauthtest"
)

var policies = map[string]oauthtest.Config{
	"no rotation":   {Policy: oauthtest.NoRotation},
	"keep old":      {Policy: oauthtest.KeepOld},
	"grace 30 s":    {Policy: oauthtest.Grace},
	"one deep":      {Policy: oauthtest.SecondToLastKills},
	"strict":        {Policy: oauthtest.Strict},
	"strict family": {Policy: oauthtest.StrictFamily},
}

// A provider that is frozen or slow for minutes deals with all that it was sent when it
// goes on. It gets one request, whoever asks for a token meanwhile; callers are told
// after a while that there is no answer yet, and from then on at once.
func TestASlowProviderEndsNoLogin(t *testing.T) {
	for _, tt := range []struct {
		name string
		slow func(*oauthtest.Server)
		ends time.Duration
	}{
		{"frozen for 60 s", freeze(time.Minute), time.Minute},
		{"frozen for 4 min", freeze(4 * time.Minute), 4 * time.Minute},
		{"frozen for 25 min", freeze(25 * time.Minute), 25 * time.Minute},
		{"answers after 20 s", slowBy(20 * time.Second), 20 * time.Second},
		{"answers after 40 s", slowBy(40 * time.Second), 40 * time.Second},
		{"answers after 90 s", slowBy(90 * time.Second), 90 * time.Second},
		{"the answer is late by 90 s", lateBy(90 * time.Second), 90 * time.Second},
	} {
		for name, policy := range policies {
			t.Run(tt.name+"/"+name, func(t *testing.T) {
				bubble(t, func(t *testing.T) {
					w := newWorld(t, policy)
					s := w.source()
					w.login(s, "ann")
					time.Sleep(2 * time.Hour)
					begun := time.Now()
					tt.slow(w.srv)
					for first := true; ; first = false {
						called := time.Now()
						_, err := s.Token(t.Context())
						took := time.Since(called)
						if err == nil {
							break
						}
						e, ok := errors.AsType[*transport.Error](err)
						if !ok || e.Kind != transport.ErrAmbiguous || !errors.Is(err, transport.ErrUnanswered) || !e.RetryAt.After(time.Now()) {
							t.Fatalf("after %v: %v", time.Since(begun), err)
						}
						if first != (took == transport.LongestWait) || !first && took != 0 {
							t.Fatalf("the caller waited for %v", took)
						}
						time.Sleep(time.Second)
					}
					if took := time.Since(begun); took > tt.ends+2*time.Second {
						t.Errorf("a token after %v", took)
					}
					w.wantCounts(1, 0)
					time.Sleep(2 * time.Hour)
					if _, err := s.Token(t.Context()); err != nil {
						t.Errorf("the next time: %v", err)
					}
				})
			})
		}
	}
}

// A token that was made when the provider went on is not taken for as old as its request.
func TestATokenIsAsOldAsItsAnswerSays(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newWorld(t, oauthtest.Config{Policy: oauthtest.StrictFamily, AccessTTL: time.Minute})
		s := w.source()
		w.login(s, "ann")
		time.Sleep(2 * time.Hour)
		freeze(90 * time.Second)(w.srv)
		s.Token(t.Context())
		time.Sleep(90 * time.Second)
		tok, err := s.Token(t.Context())
		if err != nil || time.Until(tok.Expiry) < 40*time.Second || time.Until(tok.Expiry) > time.Minute {
			t.Errorf("a token for %v, %v", time.Until(tok.Expiry), err)
		}
		w.wantCounts(1, 0)
	})
}

func freeze(d time.Duration) func(*oauthtest.Server) {
	return func(srv *oauthtest.Server) {
		srv.Freeze()
		time.AfterFunc(d, srv.Thaw)
	}
}

func slowBy(d time.Duration) func(*oauthtest.Server) {
	return func(srv *oauthtest.Server) { srv.Fault("/token", 1, oauthtest.Slow(d)) }
}

func lateBy(d time.Duration) func(*oauthtest.Server) {
	return func(srv *oauthtest.Server) { srv.Fault("/token", 1, oauthtest.AfterCommit(oauthtest.Slow(d))) }
}

// outages are ways for a provider to be down.
var outages = map[string]struct {
	begin func(*oauthtest.Server)
	end   func(*oauthtest.Server)
}{
	"503":       {func(s *oauthtest.Server) { s.Fault("/token", 0, oauthtest.Status(503, 0)) }, (*oauthtest.Server).Heal},
	"cut":       {func(s *oauthtest.Server) { s.Fault("/token", 0, oauthtest.Drop) }, (*oauthtest.Server).Heal},
	"dead port": {(*oauthtest.Server).Down, (*oauthtest.Server).Up},
	"hang":      {func(s *oauthtest.Server) { s.Fault("/token", 0, oauthtest.Hang) }, (*oauthtest.Server).Heal},
	"frozen":    {(*oauthtest.Server).Freeze, (*oauthtest.Server).Thaw},
}

// Whoever waits for a token has one soon after the provider is back: after 8 s at the
// median, and 20 s at most, however long it was down.
func TestRecoveryWithCallersWaiting(t *testing.T) {
	t.Parallel()
	for name, outage := range outages {
		t.Run(name, func(t *testing.T) {
			var times []time.Duration
			for i := range testkit.Pick(12, 30) {
				bubble(t, func(t *testing.T) {
					w := newWorld(t, oauthtest.Config{Policy: oauthtest.StrictFamily})
					s := w.source()
					w.login(s, "ann")
					time.Sleep(2 * time.Hour)
					outage.begin(w.srv)
					long := []time.Duration{time.Minute, 10 * time.Minute, time.Hour}[i%3]
					back := time.Now().Add(long + rand.N(30*time.Second))
					time.AfterFunc(time.Until(back), func() { outage.end(w.srv) })
					for {
						_, err := s.Token(t.Context())
						if err == nil {
							break
						}
						if errors.Is(err, transport.ErrLoginRequired) {
							t.Fatal(err)
						}
						if time.Until(back) > time.Minute {
							time.Sleep(7 * time.Second)
						} else {
							time.Sleep(500 * time.Millisecond)
						}
					}
					times = append(times, time.Since(back))
					if c := w.srv.Counts(); c.Reuses != 0 {
						t.Errorf("%d reuses", c.Reuses)
					}
				})
			}
			slices.Sort(times)
			median, longest := times[len(times)/2], times[len(times)-1]
			t.Logf("median %v, longest %v", median, longest)
			if median > 8*time.Second || longest > 20*time.Second {
				t.Errorf("median %v, longest %v", median, longest)
			}
		})
	}
}

// A process that nobody asks for anything asks the provider rarely, and so does one that
// keeps very many logins fresh.
func TestOutageWithoutDemand(t *testing.T) {
	t.Parallel()
	for name, outage := range outages {
		for _, logins := range []int{1, testkit.Pick(300, 1000)} {
			if logins > 1 && name != "503" && name != "frozen" {
				continue // It takes seconds, and only these two differ in kind.
			}
			t.Run(fmt.Sprint(name, "/", logins), func(t *testing.T) {
				bubble(t, func(t *testing.T) {
					w := newWorld(t, oauthtest.Config{Policy: oauthtest.StrictFamily})
					p, _ := w.pool(2 * logins)
					w.accounts(p, logins)
					ctx, cancel := context.WithCancel(t.Context())
					go p.KeepFresh(ctx)
					time.Sleep(time.Minute)
					outage.begin(w.srv)
					before := w.srv.Counts().TokenRequests
					time.Sleep(time.Hour + 2*time.Hour) // The tokens end in between.
					if n := w.srv.Counts().TokenRequests - before; n >= min(100*logins, 1000) {
						t.Errorf("%d token requests for %d logins", n, logins)
					}
					outage.end(w.srv)
					time.Sleep(65 * time.Minute) // They have the life of a token.
					synctest.Wait()
					if c := w.srv.Counts(); c.Reuses != 0 || c.Rotations < logins {
						t.Errorf("%d rotations, %d reuses", c.Rotations, c.Reuses)
					}
					cancel()
					p.Close(t.Context())
				})
			})
		}
	}
}

// While a provider is down or asks to be left alone, one account asks for all, also if
// the Pool is so small that it has forgotten the others.
func TestOneAccountAsksForAll(t *testing.T) {
	t.Parallel()
	for name, fault := range map[string]oauthtest.Fault{
		"429": oauthtest.Status(429, 0), "503": oauthtest.Status(503, 0), "cut": oauthtest.Drop,
	} {
		for _, size := range []int{1000, 200, 8} {
			t.Run(fmt.Sprint(name, "/", size), func(t *testing.T) {
				bubble(t, func(t *testing.T) {
					w := newWorld(t, oauthtest.Config{Policy: oauthtest.StrictFamily})
					p, c := w.pool(size)
					names := w.accounts(p, 300)
					time.Sleep(2 * time.Hour)
					w.srv.Fault("/token", 0, fault)
					for range 5 {
						for _, name := range names {
							if _, err := w.whoami(c, name); err == nil || errors.Is(err, transport.ErrLoginRequired) {
								t.Fatalf("%s: %v", name, err)
							}
						}
						time.Sleep(100 * time.Millisecond)
					}
					if n := w.srv.Counts().TokenRequests; n > 5 { // of 1 500 calls
						t.Errorf("%d token requests", n)
					}
					w.srv.Heal()
					time.Sleep(20 * time.Second)
					for _, name := range names {
						if _, err := w.whoami(c, name); err != nil {
							t.Fatalf("%s: %v", name, err)
						}
					}
				})
			})
		}
	}
}

// A provider that fails for one user only keeps no others from their tokens.
func TestOneUsersErrorIsNotEverybodys(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newWorld(t, oauthtest.Config{Policy: oauthtest.StrictFamily})
		p, c := w.pool(10)
		names := w.accounts(p, 3)
		time.Sleep(2 * time.Hour)
		w.srv.Fault("/token", 2, oauthtest.Status(500, 0)) // and again, at the prompt repetition
		if _, err := w.whoami(c, names[0]); !errors.Is(err, transport.ErrAmbiguous) {
			t.Fatal(err)
		}
		for _, name := range names[1:] {
			if _, err := w.whoami(c, name); err != nil {
				t.Errorf("%s: %v", name, err)
			}
		}
	})
}

// When the provider is back, the logins that wait follow the one that has found out, apart from
// one another.
func TestTheOthersFollow(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newWorld(t, oauthtest.Config{Policy: oauthtest.StrictFamily, Latency: 2 * time.Second})
		p, c := w.pool(400)
		names := w.accounts(p, 200)
		time.Sleep(2 * time.Hour)
		w.srv.Fault("/token", 1, oauthtest.Status(429, time.Minute))
		if _, err := w.whoami(c, names[0]); !errors.Is(err, transport.ErrUnavailable) {
			t.Fatal(err)
		}
		time.Sleep(time.Minute)
		before := w.srv.Counts().TokenRequests
		done := make(chan error)
		for _, name := range names {
			go func() { _, err := w.whoami(c, name); done <- err }()
		}
		time.Sleep(1900 * time.Millisecond)
		synctest.Wait()
		if n := w.srv.Counts().TokenRequests - before; n > 1 {
			t.Errorf("%d token requests before it was known that the provider is back", n)
		}
		for range names {
			if err := <-done; err != nil {
				t.Error(err)
			}
		}
	})
}

// Only time in which the process runs counts: what arrived while it was stopped is read
// before anybody gives up.
func TestRunCountsOnlyRunningTime(t *testing.T) {
	bubble(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		begun := time.Now()
		if !sleep.Running(ctx, 90*time.Second) || time.Since(begun) != 90*time.Second {
			t.Errorf("ran for %v", time.Since(begun))
		}
		cancel()
		if sleep.Running(ctx, time.Hour) {
			t.Error("it ran although its context had ended")
		}
	})
}

// The refresh token's own end is a reason to refresh: some end when a session was idle
// for a while, long before the access token.
func TestARefreshTokenThatEndsFirst(t *testing.T) {
	for _, keep := range []bool{false, true} {
		t.Run(fmt.Sprint("KeepFresh ", keep), func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				w := newWorld(t, oauthtest.Config{Policy: oauthtest.StrictFamily, AccessTTL: 2 * time.Hour, RefreshIdle: 10 * time.Minute})
				s := w.source()
				w.login(s, "ann")
				r := w.stored(s)
				r.RefreshExpiry = r.ObtainedAt.Add(10 * time.Minute)
				if err := s.Login(t.Context(), r); err != nil {
					t.Fatal(err)
				}
				ctx, cancel := context.WithCancel(t.Context())
				defer cancel()
				if keep {
					go s.KeepFresh(ctx)
				}
				for end := time.Now().Add(6 * time.Hour); time.Now().Before(end); time.Sleep(30 * time.Second) {
					if keep {
						continue
					}
					if _, err := s.Token(ctx); err != nil {
						t.Fatal(err)
					}
				}
				if _, err := s.Token(ctx); err != nil {
					t.Fatal(err)
				}
				if n := w.srv.Counts().TokenRequests; n < 36 || n > 80 {
					t.Errorf("%d refreshes in six hours of sessions that end after ten minutes", n)
				}
			})
		})
	}
}

// Where no refresh can put off the end of a login, few are made in vain.
func TestALoginThatEndsWhateverIsDone(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newWorld(t, oauthtest.Config{Policy: oauthtest.StrictFamily, AccessTTL: 2 * time.Hour, RefreshTTL: 30 * time.Minute})
		s := w.source()
		w.login(s, "ann")
		for range 29 * 60 {
			if _, err := s.Token(t.Context()); err != nil {
				t.Fatal(err)
			}
			time.Sleep(time.Second)
		}
		if n := w.srv.Counts().TokenRequests; n > 12 {
			t.Errorf("%d refreshes", n)
		}
	})
}

// Whoever cannot connect has sent nothing, and learns it soon.
func TestNoConnection(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newWorld(t, oauthtest.Config{Policy: oauthtest.StrictFamily})
		s := w.source()
		w.login(s, "ann")
		wire := w.srv.RoundTripper()
		wire.DialTLSContext = func(_ context.Context, network, _ string) (net.Conn, error) {
			time.Sleep(time.Minute) // like a system that waits for an answer to its SYN
			return nil, &net.OpError{Op: "dial", Net: network, Err: syscall.ETIMEDOUT}
		}
		s.Cfg().Refresher.(*endpoint.Endpoint).Base = wire
		time.Sleep(2 * time.Hour)
		begun := time.Now()
		_, err := s.Cfg().Refresher.Refresh(t.Context(), w.stored(s))
		if !errors.Is(err, transport.ErrUnavailable) || time.Since(begun) > 15*time.Second || !strings.Contains(err.Error(), "no connection") {
			t.Errorf("after %v: %v", time.Since(begun), err)
		}
		time.Sleep(time.Minute)
	})
}

// A login that another process has locked finds out for nobody whether the provider is
// back, so the others do not wait for it.
func TestALockedLoginAsksForNobody(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newWorld(t, oauthtest.Config{Policy: oauthtest.StrictFamily})
		p, c := w.pool(100)
		names := w.accounts(p, 10)
		time.Sleep(2 * time.Hour)
		w.srv.Down()
		for _, name := range names {
			w.whoami(c, name)
		}
		locked := p.Source(names[0])
		unlock, err := locked.Cfg().Cache.Lock(t.Context(), locked.Key()) // by a process that is stopped
		if err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Minute)
		w.srv.Up()
		back := time.Now()
		go locked.Token(t.Context())
		time.Sleep(time.Millisecond)
		var work sync.WaitGroup
		for _, name := range names[1:] {
			work.Go(func() {
				if _, err := w.whoami(c, name); err != nil || time.Since(back) > transport.TrialTime+transport.MaxSpread+time.Second {
					t.Errorf("%s after %v: %v", name, time.Since(back), err)
				}
			})
		}
		work.Wait()
		unlock()
		if err := p.Close(t.Context()); err != nil {
			t.Error(err)
		}
		w.wantCounts(10, 0)
	})
}

// A provider, or what stands before it, that cuts the connection of every question answers
// token requests all the same.
func TestQuestionsThatAreTurnedAway(t *testing.T) {
	for _, interrupted := range []bool{false, true} {
		t.Run(fmt.Sprintf("interrupted %v", interrupted), func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				w := newWorld(t, oauthtest.Config{Policy: oauthtest.StrictFamily})
				base, hang := w.base, atomic.Bool{}
				w.base = testkit.RoundTripFunc(func(r *http.Request) (*http.Response, error) {
					switch {
					case r.Method == http.MethodHead:
						return nil, syscall.ECONNRESET
					case strings.HasSuffix(r.URL.Path, "/token") && hang.CompareAndSwap(true, false):
						<-r.Context().Done() // The request is lost.
						return nil, r.Context().Err()
					}
					return base.RoundTrip(r)
				})
				s := w.source()
				w.login(s, "ann")
				time.Sleep(2 * time.Hour)
				bound := 20 * time.Second
				if interrupted {
					rec, version, err := s.Cfg().Cache.Load(t.Context(), s.Key())
					if err != nil {
						t.Fatal(err)
					}
					if _, err := s.Cfg().Cache.Save(t.Context(), s.Key(), transport.Attempting(rec), version); err != nil {
						t.Fatal(err)
					}
				} else {
					hang.Store(true)
					bound = 5*time.Minute + 20*time.Second
				}
				for begun := time.Now(); ; time.Sleep(time.Second) {
					_, err := s.Token(t.Context())
					if err == nil {
						break
					}
					if time.Since(begun) > bound {
						t.Fatalf("after %v: %v", time.Since(begun), err)
					}
				}
				w.wantCounts(1, 0)
			})
		})
	}
}
