package oauthtest_test

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net/http"
	"net/url"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	. "github.com/stayauth/stayauth/transport/oauthtest"
)

// What a client sees of each fault of the token endpoint, and whether its
// refresh token is spent afterwards.
func TestTokenFaults(t *testing.T) {
	tests := []struct {
		name  string
		fault Fault
		spent bool
		check func(t *testing.T, a answer, err error)
	}{
		{"drop", Drop, false, failed},
		{"drop after commit", AfterCommit(Drop), true, failed},
		{"503", Status(503, 90*time.Second), false, status(503, "Retry-After", "90")},
		{"503 after commit", AfterCommit(Status(503, 0)), true, status(503, "Retry-After", "")},
		{"429, time rounded up", Status(429, 1500*time.Millisecond), false, status(429, "Retry-After", "2")},
		{"truncated", Truncate, true, func(t *testing.T, a answer, err error) {
			if !errors.Is(err, io.ErrUnexpectedEOF) || !strings.HasPrefix(a.Body, `{"access_token":"at-`) {
				t.Errorf("body %d bytes, error %v; want half of it and unexpected EOF", len(a.Body), err)
			}
		}},
		{"truncated, by composition", AfterCommit(Truncate), true, func(t *testing.T, _ answer, err error) {
			if !errors.Is(err, io.ErrUnexpectedEOF) {
				t.Error(err)
			}
		}},
		{"html", HTML, false, status(200, "Content-Type", "text/html; charset=utf-8")},
		{"html after commit", AfterCommit(HTML), true, status(200, "Content-Type", "text/html; charset=utf-8")},
		{"endless", Endless, false, func(t *testing.T, a answer, err error) {
			if err != nil || len(a.Body) != 1<<20 {
				t.Errorf("read %d bytes, %v; want all that the client cares to read", len(a.Body), err)
			}
		}},
		{"redirect", Redirect(307, "https://other.test/token"), false, status(307, "Location", "https://other.test/token")},
		{"form-encoded", FormEncoded, true, func(t *testing.T, a answer, err error) {
			form, _ := url.ParseQuery(a.Body)
			if err != nil || a.Header.Get("Content-Type") != "application/x-www-form-urlencoded" ||
				!strings.HasPrefix(form.Get("access_token"), "at-") || form.Get("expires_in") != "3600" {
				t.Errorf("type %s, %d fields, %v", a.Header.Get("Content-Type"), len(form), err)
			}
		}},
		{"plain text", PlainText, true, func(t *testing.T, a answer, err error) {
			if err != nil || a.AccessToken == "" || a.Header.Get("Content-Type") != "text/plain; charset=utf-8" {
				t.Errorf("type %s, %v", a.Header.Get("Content-Type"), err)
			}
		}},
		{"edit", Edit(func(m map[string]any) { delete(m, "access_token"); m["expires_in"] = "soon" }), true,
			func(t *testing.T, a answer, err error) {
				if a.Status != 200 || strings.Contains(a.Body, "access_token") ||
					!strings.Contains(a.Body, `"expires_in":"soon"`) || !strings.Contains(a.Body, "rt-") {
					t.Error("not edited", err)
				}
			}},
		{"answer", Answer(200, "application/json", `{"ok":false,"error":"invalid_refresh_token"}`), false,
			func(t *testing.T, a answer, err error) {
				if a.Status != 200 || a.Error != "invalid_refresh_token" {
					t.Error(a.Status, a.Error, err)
				}
			}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c := inMemory(t, Config{Policy: Strict})
				login := c.s.Login("alice")
				c.s.Fault("/token", 1, tt.fault)
				a, err := c.post("/token", "grant_type", "refresh_token", "refresh_token", login.RefreshToken)
				tt.check(t, a, err)
				if spent := !c.s.Valid(login.RefreshToken); spent != tt.spent {
					t.Errorf("spent: %v, want %v", spent, tt.spent)
				}
				// The fault is used up, and the server still works.
				if a := c.refresh(c.s.Current("alice").RefreshToken); a.Status != 200 {
					t.Errorf("afterwards: %d %s", a.Status, a.Error)
				}
				if n := c.s.Counts().TokenRequests; n != 2 {
					t.Errorf("%d token requests, want 2: a request is counted also if it fails", n)
				}
			})
		})
	}
}

func failed(t *testing.T, a answer, err error) {
	if err == nil {
		t.Errorf("got status %d, want no answer", a.Status)
	}
}

func status(code int, header, value string) func(*testing.T, answer, error) {
	return func(t *testing.T, a answer, err error) {
		if err != nil || a.Status != code || a.Header.Get(header) != value {
			t.Errorf("status %d, %s %q, %v", a.Status, header, a.Header.Get(header), err)
		}
	}
}

// Providers do not agree on what an error looks like.
func TestErrorFaults(t *testing.T) {
	for name, tt := range map[string]struct {
		fault  Fault
		status int
		body   string
	}{
		"github": {ErrorStatus(200), 200, `"error":"invalid_grant"`},
		"auth0":  {ErrorStatus(403), 403, `"error":"invalid_grant"`},
		"facebook": {ErrorObject, 400,
			`{"error":{"code":190,"message":"unknown refresh token","type":"OAuthException"}}`},
	} {
		c := inMemory(t, Config{})
		c.s.Fault("/token", 0, tt.fault)
		a := c.refresh("rt-unknown")
		if a.Status != tt.status || !strings.Contains(a.Body, tt.body) {
			t.Errorf("%s: %d %s", name, a.Status, a.Body)
		}
		if a := c.refresh(c.s.Login("alice").RefreshToken); a.Status != 200 || a.AccessToken == "" {
			t.Errorf("%s: %d, want success to stay as it is", name, a.Status)
		}
	}
}

func TestSlowFaults(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := inMemory(t, Config{Policy: Strict, Latency: 2 * time.Second})
		start := time.Now()
		a := c.refresh(c.s.Login("alice").RefreshToken)
		if took := time.Since(start); took != 2*time.Second {
			t.Errorf("latency %v", took)
		}

		c.s.Fault("/token", 1, Drip(time.Second))
		start = time.Now()
		b := c.refresh(a.RefreshToken)
		if want := time.Duration(len(b.Body)+2) * time.Second; time.Since(start) != want || b.AccessToken == "" {
			t.Errorf("dripped %d bytes in %v", len(b.Body), time.Since(start))
		}

		// A client that gives up in the first half has not spent its token, in the
		// second half it has.
		for _, tt := range []struct {
			patience time.Duration
			spent    bool
		}{{500 * time.Millisecond, false}, {1500 * time.Millisecond, true}} {
			token := c.s.Current("alice").RefreshToken
			if err := c.giveUp(token, tt.patience); !errors.Is(err, context.DeadlineExceeded) {
				t.Error(err)
			}
			synctest.Wait()
			if spent := !c.s.Valid(token); spent != tt.spent {
				t.Errorf("gave up after %v: spent %v, want %v", tt.patience, spent, tt.spent)
			}
		}

		c.s.Fault("/token", 1, Hang)
		if err := c.giveUp(c.s.Current("alice").RefreshToken, time.Hour); !errors.Is(err, context.DeadlineExceeded) {
			t.Error("hang:", err)
		}
	})
}

func (c client) giveUp(token string, after time.Duration) error {
	ctx, cancel := context.WithTimeout(c.t.Context(), after)
	defer cancel()
	body := url.Values{"grant_type": {"refresh_token"}, "refresh_token": {token}}.Encode()
	req, _ := http.NewRequestWithContext(ctx, "POST", c.s.TokenURL(), strings.NewReader(body))
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	req.SetBasicAuth(c.s.ClientID(), c.s.ClientSecret())
	_, err := c.send(req)
	return err
}

// Faults come in order, as often as asked, and only to their path.
func TestFaultQueue(t *testing.T) {
	c := inMemory(t, Config{})
	token := c.s.Login("alice").RefreshToken
	c.s.Fault("/token", 2, Status(503, 0))
	c.s.Fault("/api", 1, Challenge(401))
	c.s.Fault("/token", 1, Status(429, 0))
	c.s.Fault("/token", 0, Status(500, 0))
	for i, want := range []int{503, 503, 429, 500, 500, 500} {
		if a := c.refresh(token); a.Status != want {
			t.Errorf("request %d: %d, want %d", i, a.Status, want)
		}
	}
	c.s.Heal()
	if a := c.call(c.refresh(token).AccessToken, ""); a.Status != 200 {
		t.Error("Heal did not remove the faults:", a.Status)
	}
}

func TestDown(t *testing.T) {
	for name, connect := range map[string]func(*Server) (http.RoundTripper, error){
		"pipe":   func(s *Server) (http.RoundTripper, error) { return s.RoundTripper(), nil },
		"direct": func(s *Server) (http.RoundTripper, error) { return s.Direct(), nil },
		"tcp":    func(s *Server) (http.RoundTripper, error) { return &http.Transport{}, s.Start() },
		"tls": func(s *Server) (http.RoundTripper, error) {
			err := s.StartTLS()
			return &http.Transport{TLSClientConfig: &tls.Config{RootCAs: s.CertPool()}}, err
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := New(Config{})
			defer s.Close()
			rt, err := connect(s)
			if err != nil {
				t.Fatal(err)
			}
			defer rt.(interface{ CloseIdleConnections() }).CloseIdleConnections()
			c := client{t, s, rt}
			token := s.Login("alice").RefreshToken

			// A request under way is cut, and a connection that waits is too.
			c.refresh(token)
			reached := make(chan struct{})
			s.Fault("/token", 1, func(h http.Handler) http.Handler {
				return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
					close(reached)
					Hang(h).ServeHTTP(w, r)
				})
			})
			done := make(chan error)
			go func() {
				_, err := c.post("/token", "grant_type", "refresh_token", "refresh_token", token)
				done <- err
			}()
			<-reached
			s.Down()
			if err := <-done; err == nil {
				t.Error("the request under way was answered")
			}
			for range 3 {
				_, err := c.post("/token", "grant_type", "refresh_token", "refresh_token", token)
				if err == nil {
					t.Error("answered while down")
				} else if (name == "pipe" || name == "direct") && !errors.Is(err, syscall.ECONNREFUSED) {
					t.Error(err)
				}
			}
			if n := s.Counts(); n.Refused < 3 || n.TokenRequests != 2 {
				t.Errorf("counts %+v", n)
			}
			s.Up()
			if a := c.refresh(token); a.Status != 200 {
				t.Error("after Up:", a.Status)
			}
		})
	}
}
