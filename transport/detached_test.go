package transport

import (
	"context"
	"errors"
	"net/http/httptrace"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stayauth/stayauth/transport/oauthtest"
)

func contextWithCancel(t *testing.T) (context.Context, context.CancelFunc) {
	return context.WithCancel(t.Context())
}

// Callers give up, each at its own deadline; the rotation lands all the same.
func TestCancellingCallersDoesNotCancelTheRotation(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newWorld(t, oauthtest.Config{Policy: oauthtest.StrictFamily, Latency: 10 * time.Second})
		s := w.source()
		w.login(s, "ann")
		time.Sleep(2 * time.Hour)
		var wg sync.WaitGroup
		for i := range 20 {
			wg.Go(func() {
				patience := time.Duration(i+1) * 100 * time.Millisecond
				ctx, cancel := context.WithTimeout(t.Context(), patience)
				defer cancel()
				begun := time.Now()
				_, err := s.Token(ctx)
				if !errors.Is(err, context.DeadlineExceeded) || time.Since(begun) != patience {
					t.Errorf("returned after %v, not %v: %v", time.Since(begun), patience, err)
				}
			})
		}
		wg.Wait()
		if n := w.srv.Counts().Rotations; n != 0 {
			t.Fatalf("too late: %d rotations", n)
		}
		time.Sleep(11 * time.Second)
		synctest.Wait()
		if r := w.stored(s); r.Generation != 2 || string(r.RefreshToken) != w.srv.Current("ann").RefreshToken {
			t.Errorf("the rotation did not land: generation %d", r.Generation)
		}
		w.wantCounts(1, 0)
	})
}

// A program that exits after its response does not interrupt the refresh that
// its request started: the response waits, but not for ever.
func TestAResponseWaitsForItsRefresh(t *testing.T) {
	for _, tt := range []struct {
		name    string
		latency time.Duration
		settle  time.Duration
		keep    bool
		waits   time.Duration
	}{
		{"until it is saved", time.Second, 0, false, time.Second},
		{"not for ever", 10 * time.Second, 0, false, 5 * time.Second},
		{"as long as it is told", 10 * time.Second, 2 * time.Second, false, 2 * time.Second},
		{"not if told so", 10 * time.Second, -1, false, 0},
		{"not in a service", 10 * time.Second, 0, true, 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				w := newWorld(t, oauthtest.Config{Policy: oauthtest.StrictFamily, Latency: tt.latency})
				s := w.source()
				w.login(s, "ann")
				rt, err := New(Config{Source: s, Origins: []string{w.srv.APIOrigin()}, Base: w.base, Settle: tt.settle})
				if err != nil {
					t.Fatal(err)
				}
				time.Sleep(58 * time.Minute)
				if tt.keep {
					s.keepers.Add(1) // as KeepFresh does
				}
				req := newRequest(t, "GET", w.srv.APIURL(), nil)
				begun := time.Now()
				resp, err := rt.RoundTrip(req)
				if err != nil {
					t.Fatal(err)
				}
				resp.Body.Close()
				if d := time.Since(begun); d != tt.waits {
					t.Errorf("the response came after %v, want %v", d, tt.waits)
				}
				if err := s.Close(t.Context()); err != nil {
					t.Error(err)
				}
				if g := w.stored(s).Generation; g != 2 {
					t.Errorf("generation %d after Close", g)
				}
			})
		})
	}
}

// The hooks of a request see that request only: not the refresh that it starts,
// which may outlive it and sends secrets.
func TestHooksDoNotSeeTheRefresh(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newWorld(t, oauthtest.Config{Policy: oauthtest.StrictFamily, Latency: time.Second})
		s := w.source()
		w.login(s, "ann")
		type key struct{}
		seen := false
		s.cfg.Refresher = watchedRefresher{Endpoint: w.endpoint(), context: func(ctx context.Context) { seen = ctx.Value(key{}) == "mine" }}
		returned := false
		ctx := httptrace.WithClientTrace(context.WithValue(t.Context(), key{}, "mine"), &httptrace.ClientTrace{
			GetConn: func(hostPort string) {
				if returned {
					t.Error("a hook was called after the request")
				}
			},
			WroteHeaderField: func(name string, value []string) {
				if name == "Authorization" && !strings.HasPrefix(value[0], "Bearer ") {
					t.Error("a hook was shown the client secret")
				}
			},
		})
		for _, sleep := range []time.Duration{58 * time.Minute, 2 * time.Hour} {
			time.Sleep(sleep)
			rt, err := New(Config{Source: s, Origins: []string{w.srv.APIOrigin()}, Base: w.base, Settle: -1})
			if err != nil {
				t.Fatal(err)
			}
			returned = false
			resp, err := rt.RoundTrip(newRequest(t, "GET", w.srv.APIURL(), nil).WithContext(ctx))
			if err != nil {
				t.Fatal(err)
			}
			resp.Body.Close()
			returned = true
			if err := s.Flush(t.Context()); err != nil {
				t.Fatal(err)
			}
			if !seen {
				t.Error("the other values of the context are gone")
			}
		}
		w.wantCounts(2, 0)
	})
}

// A response is held back no longer than its request's context allows.
func TestAResponseDoesNotWaitPastItsContext(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newWorld(t, oauthtest.Config{Policy: oauthtest.StrictFamily, Latency: 10 * time.Second})
		s := w.source()
		w.login(s, "ann")
		time.Sleep(58 * time.Minute)
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		begun := time.Now()
		resp, err := w.client(s).Transport.RoundTrip(newRequest(t, "GET", w.srv.APIURL(), nil).WithContext(ctx))
		if err != nil || time.Since(begun) != time.Second {
			t.Fatalf("after %v: %v", time.Since(begun), err)
		}
		resp.Body.Close()
		if err := s.Close(t.Context()); err != nil {
			t.Error(err)
		}
	})
}
