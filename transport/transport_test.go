package transport_test

import (
	"context"
	"errors"
	"io"
	"maps"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/iotest"
	"time"

	"github.com/stayauth/stayauth/transport"
	"github.com/stayauth/stayauth/transport/internal/testkit"
	"github.com/stayauth/stayauth/transport/oauthtest"
)

// A watchedBody says whether it was closed.
type watchedBody struct {
	io.Reader
	closed atomic.Int32
}

func (b *watchedBody) Close() error { b.closed.Add(1); return nil }

// net/http.RoundTripper: "RoundTrip must always close the body, including on
// errors", and "should not modify the request".
func TestTheRequestIsNotModifiedAndItsBodyIsClosed(t *testing.T) {
	for _, tt := range []struct {
		name    string
		prepare func(*world, *transport.Source)
		change  func(*http.Request)
		wantErr bool
	}{
		{"success", nil, nil, false},
		{"no login", func(w *world, s *transport.Source) { s.Forget(context.Background()) }, nil, true},
		{"the API cannot be reached", func(w *world, s *transport.Source) { w.srv.Fault("/api", 0, oauthtest.Drop) }, nil, true},
		{"401 and again", func(w *world, s *transport.Source) { w.srv.RevokeAccess(w.srv.Current("ann").AccessToken) }, nil, false},
		{"an origin that is not listed", nil, func(r *http.Request) { r.URL.Host = "elsewhere.test" }, false},
		{"authorized already", nil, func(r *http.Request) { r.Header.Set("Authorization", "Basic eA==") }, false},
		{"a body of unknown length", nil, func(r *http.Request) { r.ContentLength = -1 }, false},
		{"a body that is too big to keep", nil, func(r *http.Request) {
			r.ContentLength = 1 << 20
			r.Body.(*watchedBody).Reader = strings.NewReader(strings.Repeat("x", 1<<20))
		}, false},
		{"a body that fails", nil, func(r *http.Request) { r.Body.(*watchedBody).Reader = iotest.ErrReader(io.ErrNoProgress) }, true},
		{"a body that is shorter than announced", nil, func(r *http.Request) { r.ContentLength = 100 }, true},
		{"a body that is longer than announced", nil, func(r *http.Request) { r.ContentLength = 1 }, true},
		{"cancelled", nil, func(r *http.Request) {
			ctx, cancel := context.WithCancel(r.Context())
			cancel()
			*r = *r.WithContext(ctx)
		}, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				w := newWorld(t, oauthtest.Config{Policy: oauthtest.StrictFamily})
				s := w.source()
				w.login(s, "ann")
				time.Sleep(time.Minute)
				if tt.prepare != nil {
					tt.prepare(w, s)
				}
				rt, err := transport.New(transport.Config{Source: s, Origins: []string{w.srv.APIOrigin()}, Base: w.base})
				if err != nil {
					t.Fatal(err)
				}
				body := &watchedBody{Reader: strings.NewReader("hello")}
				req := newRequest(t, "POST", w.srv.APIURL(), body)
				req.ContentLength = 5
				req.Header.Set("X-Test", "1")
				if tt.change != nil {
					tt.change(req)
				}
				before, header := *req, maps.Clone(req.Header)
				resp, err := rt.RoundTrip(req)
				if (err != nil) != tt.wantErr {
					t.Fatalf("error %v, want one: %v", err, tt.wantErr)
				}
				if err == nil {
					if resp.Request.Header["Authorization"] != nil && header["Authorization"] == nil {
						t.Error("the response shows the token, in its Request")
					}
					io.Copy(io.Discard, resp.Body)
					resp.Body.Close()
				}
				time.Sleep(time.Second) // the base transport may close late
				if body.closed.Load() == 0 {
					t.Error("the body was not closed")
				}
				if req.Body != before.Body || req.URL != before.URL || req.ContentLength != before.ContentLength ||
					req.GetBody != nil || !maps.EqualFunc(req.Header, header, func(a, b []string) bool { return strings.Join(a, "|") == strings.Join(b, "|") }) {
					t.Error("the request was modified")
				}
			})
		})
	}
}

func TestTheCallersContextEndsTheWaitForAToken(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newWorld(t, oauthtest.Config{Policy: oauthtest.StrictFamily, Latency: 10 * time.Second})
		s := w.source()
		w.login(s, "ann")
		time.Sleep(2 * time.Hour)
		c := w.client(s)
		c.Timeout = time.Second
		begun := time.Now()
		_, err := c.Get(w.srv.APIURL())
		if u, ok := errors.AsType[*url.Error](err); !ok || !u.Timeout() || time.Since(begun) != time.Second {
			t.Errorf("after %v: %v", time.Since(begun), err)
		}
		if err := s.Close(t.Context()); err != nil {
			t.Error(err)
		}
	})
}

// The connection of a 401 is used again: its body is read to the end.
func TestRefusedResponsesFreeTheirConnections(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newWorld(t, oauthtest.Config{Policy: oauthtest.Strict})
		s := w.source()
		w.login(s, "ann")
		c := w.client(s)
		get(t, c, w.srv.APIURL())
		for range 10 {
			time.Sleep(time.Minute)
			w.srv.RevokeAccess(w.srv.Current("ann").AccessToken)
			if status, _ := get(t, c, w.srv.APIURL()); status != 200 {
				t.Fatalf("status %d", status)
			}
		}
		if n := w.srv.Counts().Connections; n > 1+10 { // one for the API, and each token request has its own
			t.Errorf("%d connections", n)
		}
	})
}

func TestCloseIdleConnections(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newWorld(t, oauthtest.Config{})
		s := w.source()
		w.login(s, "ann")
		c := w.client(s)
		get(t, c, w.srv.APIURL())
		c.CloseIdleConnections()
		get(t, c, w.srv.APIURL())
		if n := w.srv.Counts().Connections; n != 2 {
			t.Errorf("%d connections, want 2", n)
		}
		rt, err := transport.New(transport.Config{Source: s, Origins: []string{"https://api.test"}, Base: testkit.RoundTripFunc(nil)})
		if err != nil {
			t.Fatal(err)
		}
		rt.CloseIdleConnections() // of a base that cannot
	})
}

// A token never follows a redirect to another origin, nor to plain http, and
// comes back with the way home (C14, C49).
func TestRedirects(t *testing.T) {
	for _, target := range []string{
		"https://elsewhere.test/",
		"http://auth.test/api", // the same host, unprotected
		"https://auth.test:8443/api",
		"https://sub.auth.test/api",
	} {
		for _, status := range []int{301, 302, 303, 307, 308} {
			t.Run(target, func(t *testing.T) {
				bubble(t, func(t *testing.T) {
					w := newWorld(t, oauthtest.Config{})
					s := w.source()
					w.login(s, "ann")
					w.srv.Fault("/api/redirect", 1, oauthtest.Redirect(status, target))
					get(t, w.client(s), w.srv.APIURL()+"/redirect")
					strays := w.srv.Strays()
					if len(strays) != 1 {
						t.Fatalf("%d requests arrived elsewhere, want 1", len(strays))
					}
					for _, stray := range strays {
						if len(stray.Header["Authorization"]) > 0 || contains(string(stray.Body)+stray.URL, w.srv.Secrets()) {
							t.Errorf("a token went to %s", target)
						}
					}
				})
			})
		}
	}
	t.Run("within the origin", func(t *testing.T) {
		bubble(t, func(t *testing.T) {
			w := newWorld(t, oauthtest.Config{})
			s := w.source()
			w.login(s, "ann")
			w.srv.Fault("/api/redirect", 1, oauthtest.Redirect(302, w.srv.APIURL()+"/there"))
			if status, _ := get(t, w.client(s), w.srv.APIURL()+"/redirect"); status != 200 {
				t.Errorf("status %d", status)
			}
		})
	})
}

// A request may be sent by many goroutines at once, as net/http asks.
func TestConcurrentUse(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newWorld(t, oauthtest.Config{Policy: oauthtest.StrictFamily, AccessTTL: time.Minute, Latency: time.Second})
		s := w.source()
		w.login(s, "ann")
		c := w.client(s)
		var wg sync.WaitGroup
		for i := range 50 {
			wg.Go(func() {
				for range 50 {
					time.Sleep(time.Duration(i+1) * 50 * time.Millisecond)
					if status, _ := get(t, c, w.srv.APIURL()); status != 200 {
						t.Errorf("status %d", status)
					}
				}
			})
		}
		wg.Wait()
		if c := w.srv.Counts(); c.Reuses != 0 || c.APIRefused != 0 {
			t.Errorf("%d reuses, %d refused", c.Reuses, c.APIRefused)
		}
	})
}
