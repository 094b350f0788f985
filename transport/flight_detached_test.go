package transport_test

import (
	"context"
	"errors"
	"net/http/httptrace"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stayauth/stayauth/transport"
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

// The hooks of a request see that request only: not the refresh that it starts,
// which may outlive it and sends secrets.
func TestHooksDoNotSeeTheRefresh(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newWorld(t, oauthtest.Config{Policy: oauthtest.StrictFamily, Latency: time.Second})
		s := w.source()
		w.login(s, "ann")
		type key struct{}
		seen := false
		s.Cfg().Refresher = watchedRefresher{Endpoint: w.endpoint(), context: func(ctx context.Context) { seen = ctx.Value(key{}) == "mine" }}
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
			rt, err := transport.New(transport.Config{Source: s, Origins: []string{w.srv.APIOrigin()}, Base: w.base, Settle: -1})
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
