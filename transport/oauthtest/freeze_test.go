package oauthtest_test

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	. "github.com/stayauth/stayauth/transport/oauthtest"
)

// A frozen server works through what it was sent, in order, also for clients
// that have gone: the second presentation of a refresh token is theft then.
func TestFreezeMakesARepetitionTheft(t *testing.T) {
	for name, connect := range map[string]func(*Server) http.RoundTripper{
		"pipe":   func(s *Server) http.RoundTripper { return s.RoundTripper() },
		"direct": func(s *Server) http.RoundTripper { return s.Direct() },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := New(Config{Policy: StrictFamily, Latency: time.Second})
				defer s.Close()
				c := client{t, s, connect(s)}
				login := s.Login("alice")
				s.Freeze()
				for range 2 {
					if err := c.giveUp(login.RefreshToken, 15*time.Second); !errors.Is(err, context.DeadlineExceeded) {
						t.Error("a frozen server answered:", err)
					}
				}
				if a := c.call(login.AccessToken, ""); a.Status != 200 {
					t.Errorf("the API answered %d, want it not to be frozen", a.Status)
				}
				if n := s.Counts(); n.TokenRequests != 2 || n.Rotations != 0 {
					t.Errorf("while frozen: %+v", n)
				}
				s.Thaw()
				// Whoever comes now comes last.
				a := c.refresh(login.RefreshToken)
				if n := s.Counts(); a.Error != "invalid_grant" || n.Rotations != 1 || n.Reuses != 1 || n.FamiliesRevoked != 1 {
					t.Errorf("%s, %+v; want one rotation, then one reuse", a.Error, n)
				}
				if s.Valid(s.Current("alice").RefreshToken) {
					t.Error("the login outlived the reuse")
				}
				if a := c.refresh(s.Login("bob").RefreshToken); a.Status != 200 {
					t.Error("after the queue:", a.Status)
				}
			})
		})
	}
}

// Over TCP as in memory, and Close lets nobody hang.
func TestFreezeEndsWithClose(t *testing.T) {
	s := New(Config{Policy: Strict})
	if err := s.StartTLS(); err != nil {
		t.Fatal(err)
	}
	rt := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: s.CertPool()}}
	defer rt.CloseIdleConnections()
	c := client{t, s, rt}
	token := s.Login("alice").RefreshToken
	s.Freeze()
	gone := make(chan error)
	for range 2 {
		go func() { gone <- c.giveUp(token, time.Minute) }()
	}
	for s.Counts().TokenRequests < 2 {
		time.Sleep(time.Millisecond)
	}
	s.Close()
	for range 2 {
		if err := <-gone; err == nil || errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("Close: %v, want a cut connection", err)
		}
	}
	if !s.Valid(token) {
		t.Error("Close let the server work on")
	}
}

// HEAD is a harmless question: it meets what goes wrong with the next request,
// and leaves it to that.
func TestQuestionsAreHarmless(t *testing.T) {
	for name, connect := range map[string]func(*Server) http.RoundTripper{
		"pipe":   func(s *Server) http.RoundTripper { return s.RoundTripper() },
		"direct": func(s *Server) http.RoundTripper { return s.Direct() },
	} {
		t.Run(name, func(t *testing.T) {
			s := New(Config{Policy: Strict})
			defer s.Close()
			c := client{t, s, connect(s)}
			ask := func() (int, error) {
				req, _ := http.NewRequestWithContext(t.Context(), "HEAD", s.TokenURL(), nil)
				a, err := c.send(req)
				return a.Status, err
			}
			if status, err := ask(); status != 405 {
				t.Errorf("%d, %v; want 405", status, err)
			}
			s.Fault("/token", 1, Status(503, 0))
			for range 3 {
				if status, err := ask(); status != 503 {
					t.Errorf("%d, %v; want the fault", status, err)
				}
			}
			token := s.Login("alice").RefreshToken
			if a := c.refresh(token); a.Status != 503 {
				t.Errorf("%d, want the fault, which the questions used up", a.Status)
			}
			if status, err := ask(); status != 405 {
				t.Errorf("%d, %v; want 405 again", status, err)
			}
			if a := c.refresh(token); a.Status != 200 {
				t.Error(a.Status)
			}
			if n := s.Counts(); n.Questions != 5 || n.TokenRequests != 2 {
				t.Errorf("%d questions and %d token requests, want 5 and 2", n.Questions, n.TokenRequests)
			}
			s.Fault("/token", 0, Edit(func(map[string]any) { t.Error("the answer to a question is to be changed") }))
			if status, err := ask(); status != 405 {
				t.Errorf("%d, %v; want 405", status, err)
			}
			s.Heal()
			s.Fault("/token", 0, Drop)
			if status, err := ask(); err == nil {
				t.Errorf("%d, want no answer", status)
			}
		})
	}
}

// transport/03: the second presentation is refused for as long as the first is
// at work, and means nothing.
func TestOneAtATime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := inMemory(t, Config{Policy: StrictFamily, OneAtATime: true})
		login := c.s.Login("alice")
		c.s.Fault("/token", 1, Slow(20*time.Second))
		first := make(chan answer)
		go func() { first <- c.refresh(login.RefreshToken) }()
		synctest.Wait()
		const busy = "token request is already being processed"
		if a := c.refresh(login.RefreshToken); a.Status != 400 || a.Error != "invalid_grant" || !strings.Contains(a.Body, busy) {
			t.Errorf("%d %s, want %q", a.Status, a.Error, busy)
		}
		if a := c.refresh(c.s.Login("bob").RefreshToken); a.Status != 200 {
			t.Errorf("another login: %d", a.Status)
		}
		a := <-first
		if a.Status != 200 {
			t.Errorf("the first: %d %s", a.Status, a.Error)
		}
		if a := c.refresh(a.RefreshToken); a.Status != 200 {
			t.Errorf("its successor: %d %s", a.Status, a.Error)
		}
		if n := c.s.Counts(); n.Reuses != 0 || n.InvalidGrants != 1 || n.Rotations != 3 {
			t.Errorf("%+v", n)
		}
	})
}

// A server that is slow does its work though the client has given up.
func TestSlowOutlivesItsClient(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := inMemory(t, Config{Policy: Strict})
		login := c.s.Login("alice")
		c.s.Fault("/token", 1, Slow(20*time.Second))
		if err := c.giveUp(login.RefreshToken, 15*time.Second); !errors.Is(err, context.DeadlineExceeded) {
			t.Error(err)
		}
		if !c.s.Valid(login.RefreshToken) {
			t.Error("spent too early")
		}
		time.Sleep(6 * time.Second)
		if c.s.Valid(login.RefreshToken) {
			t.Error("not spent, because the client had gone")
		}
		// Close does not wait for it.
		c.s.Fault("/token", 1, Slow(24*time.Hour))
		c.giveUp(c.s.Current("alice").RefreshToken, time.Second)
		start := time.Now()
		c.s.Close()
		if d := time.Since(start); d > time.Minute {
			t.Errorf("Close took %v", d)
		}
	})
}

func TestStall(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := inMemory(t, Config{})
		c.s.Fault("/api", 1, Stall(Challenge(401, "Bearer")))
		ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
		defer cancel()
		req, _ := http.NewRequestWithContext(ctx, "GET", c.s.APIURL(), nil)
		resp, err := c.rt.RoundTrip(req)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		body, err := io.ReadAll(resp.Body)
		if resp.StatusCode != 401 || resp.Header.Get("WWW-Authenticate") != "Bearer" || len(body) == 0 || !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("%d, %q, %d bytes, %v; want a 401 whose body stalls", resp.StatusCode, resp.Header.Get("WWW-Authenticate"), len(body), err)
		}
	})
}

// Too many requests, whatever for.
func TestFaultForAllPaths(t *testing.T) {
	c := inMemory(t, Config{})
	c.s.Fault("", 0, Status(429, 0))
	if a := c.refresh("rt"); a.Status != 429 || a.Header.Get("Retry-After") != "" {
		t.Error(a.Status, a.Header)
	}
	c.s.Heal()
	c.s.Fault("", 0, Status(429, time.Minute))
	if a := c.call("at", ""); a.Status != 429 || a.Header.Get("Retry-After") != "60" {
		t.Error(a.Status, a.Header)
	}
}

// A login that is not used dies, though its access token is still good, and each
// refresh lets it live anew.
func TestRefreshIdle(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := inMemory(t, Config{Policy: KeepOld, AccessTTL: time.Hour, RefreshIdle: 30 * time.Minute, RefreshTTL: 80 * time.Minute})
		token := c.s.Login("alice").RefreshToken
		for i, want := range []string{`"refresh_expires_in":1800`, `"refresh_expires_in":1800`, `"refresh_expires_in":300`} {
			time.Sleep(25 * time.Minute)
			a := c.refresh(token)
			if a.Status != 200 || !strings.Contains(a.Body, want) {
				t.Errorf("refresh %d: %d, want %s", i, a.Status, want)
			}
			token = a.RefreshToken
		}
		login := c.s.Login("bob")
		time.Sleep(30 * time.Minute)
		if !c.s.Valid(login.AccessToken) || c.s.Valid(login.RefreshToken) {
			t.Error("want a refresh token that lives shorter than the access token")
		}
		if a := c.refresh(login.RefreshToken); a.Error != "invalid_grant" {
			t.Error(a.Status, a.Error)
		}
	})
}

// Valid is the API's opinion: its clock counts.
func TestValidHeedsSkew(t *testing.T) {
	for skew, want := range map[time.Duration]bool{-2 * time.Hour: true, 0: true, 2 * time.Hour: false} {
		c := inMemory(t, Config{Skew: skew})
		token := c.s.Login("alice").AccessToken
		if got := c.s.Valid(token); got != want || (c.call(token, "").Status == 200) != want {
			t.Errorf("skew %v: valid %v, want %v as at the API", skew, got, want)
		}
	}
}
