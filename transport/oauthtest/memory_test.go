package oauthtest_test

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	. "github.com/stayauth/stayauth/transport/oauthtest"
)

// A body comes whole, however big, over the wire and directly.
func TestEcho(t *testing.T) {
	s := New(Config{})
	defer s.Close()
	for name, rt := range map[string]http.RoundTripper{"pipe": s.RoundTripper(), "direct": s.Direct()} {
		c := client{t, s, rt}
		token := s.Login("alice").AccessToken
		for _, size := range []int{0, 1, 1 << 20} {
			body := strings.Repeat("x", size)
			a := c.call(token, body)
			var got Echo
			if err := json.Unmarshal([]byte(a.Body), &got); err != nil {
				t.Fatal(name, a.Status, err)
			}
			sum := sha256.Sum256([]byte(body))
			want := Echo{"POST", "/api/echo", "alice", int64(size), hex.EncodeToString(sum[:])}
			if got != want {
				t.Errorf("%s: %+v, want %+v", name, got, want)
			}
		}
	}
}

func TestAPIRefuses(t *testing.T) {
	s := New(Config{})
	defer s.Close()
	token := s.Login("alice").AccessToken
	tests := []struct {
		name, query string
		header      []string
		status      int
		challenge   string
	}{
		{"no token", "", nil, 401, `Bearer realm="oauthtest"`},
		{"another scheme", "", []string{"Basic eDp5"}, 401, `Bearer realm="oauthtest"`},
		{"unknown token", "", []string{"Bearer at-x"}, 401, `Bearer realm="oauthtest", error="invalid_token", error_description="expired, revoked or unknown"`},
		{"in the URI", "?access_token=" + token, nil, 400, `Bearer realm="oauthtest", error="invalid_request"`},
		{"twice", "", []string{"Bearer " + token, "Bearer " + token}, 400, `Bearer realm="oauthtest", error="invalid_request"`},
		{"lower case", "", []string{"bearer " + token}, 200, ""},
	}
	for wire, rt := range map[string]http.RoundTripper{"pipe": s.RoundTripper(), "direct": s.Direct()} {
		for _, tt := range tests {
			req, _ := http.NewRequest("GET", s.APIURL()+tt.query, nil)
			req.Header["Authorization"] = tt.header
			a, err := client{t, s, rt}.send(req)
			if err != nil || a.Status != tt.status || a.Header.Get("WWW-Authenticate") != tt.challenge {
				t.Errorf("%s, %s: %d %q, %v", wire, tt.name, a.Status, a.Header.Get("WWW-Authenticate"), err)
			}
		}
	}
	if n := s.Counts(); n.APICalls != 12 || n.APIRefused != 6 {
		t.Errorf("counts %+v", n)
	}
}

func TestAPIFaults(t *testing.T) {
	s := New(Config{})
	defer s.Close()
	c := client{t, s, s.Direct()} // which goes over the wire for them
	token := s.Login("alice").AccessToken
	s.Fault("/api", 1, Challenge(401))
	if a := c.call(token, "body"); a.Status != 401 || a.Header.Values("WWW-Authenticate") != nil {
		t.Error(a.Status, a.Header)
	}
	s.Fault("/api", 1, Challenge(403, `Basic realm="x"`, `Bearer error="insufficient_scope", scope="admin"`))
	if a := c.call(token, "body"); a.Status != 403 || len(a.Header.Values("WWW-Authenticate")) != 2 {
		t.Error(a.Status, a.Header)
	}
	s.Fault("/api", 1, Drop)
	req, _ := http.NewRequest("POST", s.APIURL(), strings.NewReader("x"))
	if _, err := c.send(req); err == nil {
		t.Error("answered")
	}
	if n := s.Counts(); n.APICalls != 3 || n.APIRefused != 2 {
		t.Errorf("counts %+v", n)
	}
}

// Requests to other origins, of which another scheme is one, are recorded. The
// client here is one that hands its token to whoever asks.
func TestStrays(t *testing.T) {
	s := New(Config{})
	defer s.Close()
	for _, rt := range []http.RoundTripper{s.RoundTripper(), s.Direct()} {
		for _, to := range []string{"https://elsewhere.test/x?y=1", "http://api.test/api", "https://api.test:8443/api"} {
			s.Fault("/api", 1, Redirect(307, to))
			req, _ := http.NewRequest("POST", s.APIURL(), strings.NewReader("body"))
			req.Header.Set("Authorization", "Bearer secret")
			hc := &http.Client{Transport: rt, CheckRedirect: func(r *http.Request, via []*http.Request) error {
				r.Header.Set("Authorization", via[0].Header.Get("Authorization"))
				return nil
			}}
			resp, err := hc.Do(req)
			if err != nil {
				t.Fatal(err)
			}
			resp.Body.Close()
			strays := s.Strays()
			got := strays[len(strays)-1]
			if got.Method != "POST" || got.URL != to || got.Header.Get("Authorization") != "Bearer secret" || string(got.Body) != "body" {
				t.Errorf("%+v, want %s", got, to)
			}
		}
	}
	// The default port and capitals are no other origin.
	c := client{t, s, s.Direct()}
	req, _ := http.NewRequest("GET", "https://API.test:443/api", nil)
	if a, err := c.send(req); err != nil || a.Status != 401 {
		t.Error(a.Status, err)
	}
	if n := len(s.Strays()); n != 6 {
		t.Errorf("%d strays", n)
	}
}

// Connections over the pipe are pooled like any other, and end with the server.
func TestConnections(t *testing.T) {
	c := inMemory(t, Config{})
	token := c.s.Login("alice").AccessToken
	for range 10 {
		c.call(token, "body")
	}
	if n := c.s.Counts().Connections; n != 1 {
		t.Errorf("%d connections for ten calls in a row", n)
	}
	c.s.Close()
	c.s.Close()
	req, _ := http.NewRequest("GET", c.s.APIURL(), nil)
	if _, err := c.send(req); err == nil {
		t.Error("answered after Close")
	}
	c.rt = c.s.RoundTripper()
	if a := c.call(token, ""); a.Status != 200 {
		t.Error("tokens are lost after Close:", a.Status)
	}
}

// A closeCheck is a body that knows whether it was closed.
type closeCheck struct {
	io.Reader
	closed bool
}

func (b *closeCheck) Close() error { b.closed = true; return nil }

// Direct keeps to the contract of a RoundTripper.
func TestDirectContract(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := New(Config{Latency: time.Minute})
		defer s.Close()
		rt := s.Direct()
		for _, tt := range []struct {
			patience time.Duration
			path     string
			err      error
		}{
			{time.Hour, "/api", nil},
			{0, "/api", context.DeadlineExceeded},
			{time.Second, "/token", context.DeadlineExceeded},
		} {
			ctx, cancel := context.WithTimeout(t.Context(), tt.patience)
			body := &closeCheck{Reader: strings.NewReader("a=b")}
			req, _ := http.NewRequestWithContext(ctx, "POST", s.URL()+tt.path, body)
			resp, err := rt.RoundTrip(req)
			if !errors.Is(err, tt.err) || !body.closed || (err == nil) != (resp != nil) {
				t.Errorf("%s: %v, body closed %v", tt.path, err, body.closed)
			}
			if req.RequestURI != "" || req.Body != body {
				t.Error("the request was modified")
			}
			cancel()
		}
		s.Down()
		body := &closeCheck{Reader: strings.NewReader("a=b")}
		req, _ := http.NewRequest("POST", s.APIURL(), body)
		if _, err := rt.RoundTrip(req); err == nil || !body.closed {
			t.Error("down:", err, body.closed)
		}
		s.Up()
		req, _ = http.NewRequest("HEAD", s.APIURL(), nil)
		if resp, err := rt.RoundTrip(req); err != nil || resp.StatusCode != 401 || resp.Body != http.NoBody {
			t.Error("HEAD:", err)
		}
	})
}

// A thousand callers, one day, an access token that lives an hour: this is
// what the simulations of package transport cost without package transport.
func TestSimulation(t *testing.T) {
	const callers, hours = 1000, 24
	synctest.Test(t, func(t *testing.T) {
		s := New(Config{Policy: StrictFamily})
		defer s.Close()
		c := client{t, s, s.Direct()}
		login := s.Login("alice")
		access, refresh := login.AccessToken, login.RefreshToken
		for range hours {
			a := c.refresh(refresh)
			access, refresh = a.AccessToken, a.RefreshToken
			var wg sync.WaitGroup
			for range callers {
				wg.Go(func() {
					for range 3 {
						c.call(access, "hello")
						time.Sleep(19 * time.Minute)
					}
				})
			}
			wg.Wait()
		}
		n := s.Counts()
		if n.APICalls != callers*hours*3 || n.APIRefused != 0 || n.Rotations != hours || n.Reuses != 0 || n.Connections != 0 {
			t.Errorf("%+v", n)
		}
	})
}

func BenchmarkCall(b *testing.B) {
	s := New(Config{})
	defer s.Close()
	token := s.Login("alice").AccessToken
	for name, rt := range map[string]http.RoundTripper{"pipe": s.RoundTripper(), "direct": s.Direct()} {
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				req, _ := http.NewRequest("POST", s.APIURL(), strings.NewReader("hello"))
				req.Header.Set("Authorization", "Bearer "+token)
				resp, err := rt.RoundTrip(req)
				if err != nil || resp.StatusCode != 200 {
					b.Fatal(err)
				}
				io.Copy(io.Discard, resp.Body)
				resp.Body.Close()
			}
		})
	}
}
