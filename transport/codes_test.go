package transport_test

import (
	"errors"
	"io"
	"net/http"
	"testing"
	"time"

	"github.com/stayauth/stayauth/transport"
	"github.com/stayauth/stayauth/transport/endpoint"
	"github.com/stayauth/stayauth/transport/internal/testkit"
	"github.com/stayauth/stayauth/transport/oauthtest"
)

// A provider that does not say invalid_grant, or not where it belongs, is believed the
// first time: one request, and a tombstone for all processes.
func TestRefusedInOtherWords(t *testing.T) {
	for name, answer := range map[string]oauthtest.Fault{
		"Fitbit": oauthtest.Answer(400, jsonType, `{"errors":[{"errorType":"invalid_grant","message":"Refresh token invalid: x."}],"success":false}`),
		"Twitch": oauthtest.Answer(400, jsonType, `{"status":400,"message":"Invalid refresh token"}`),
		"OpenAI": oauthtest.Answer(401, jsonType, `{"error":{"message":"...","type":"invalid_request_error","code":"token_expired"}}`),
		"Hydra":  oauthtest.Answer(401, jsonType, `{"error":"token_inactive","error_description":"Token is inactive."}`),
		"dex":    oauthtest.Answer(400, jsonType, `{"error":"invalid_request","error_description":"Refresh token is invalid or has already been claimed by another client."}`),
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				w := newWorld(t, oauthtest.Config{})
				s := w.source()
				w.login(s, "ann")
				time.Sleep(2 * time.Hour)
				w.srv.Fault("/token", 0, answer)
				for range 60 {
					if _, err := s.Token(t.Context()); !errors.Is(err, transport.ErrLoginRequired) {
						t.Fatal(err)
					}
					time.Sleep(time.Second)
				}
				w.wantCounts(1, 0)
				if w.stored(s).Tombstone == nil {
					t.Error("no other process learns of it")
				}
			})
		})
	}
}

// A provider that is still at work on an earlier request has not refused the refresh
// token: it is asked again soon, and the login lives.
func TestStillProcessing(t *testing.T) {
	for _, description := range []string{"token request is already being processed", "expired authorization code"} {
		bubble(t, func(t *testing.T) {
			w := newWorld(t, oauthtest.Config{Policy: oauthtest.KeepOld})
			s := w.source()
			w.login(s, "ann")
			time.Sleep(2 * time.Hour)
			w.srv.Fault("/token", 1, oauthtest.Answer(400, jsonType, `{"error":"invalid_grant","error_description":"`+description+`"}`))
			_, err := s.Token(t.Context())
			e, ok := errors.AsType[*transport.Error](err)
			if !ok || e.Kind != transport.ErrUnavailable || time.Until(e.RetryAt) > 3*time.Second {
				t.Fatalf("%s: %v", description, err)
			}
			if w.stored(s).Tombstone != nil {
				t.Fatalf("%s: the login has ended", description)
			}
			time.Sleep(3 * time.Second)
			if _, err := s.Token(t.Context()); err != nil {
				t.Errorf("%s: then: %v", description, err)
			}
		})
	}
}

// A strict provider's tokens are taken from an answer that was damaged on its way: one
// request, and the login lives.
func TestDamagedAnswersCostNoLogin(t *testing.T) {
	for name, damage := range map[string]func(string) string{
		"compressed":     testkit.Gzip,
		"NUL at the end": func(body string) string { return body + "\x00" },
		"semicolon":      func(body string) string { return body + ";" },
		"comment":        func(body string) string { return body + "\n<!-- n7 -->" },
		"wrapped":        func(body string) string { return `{"status":0,"body":` + body + `}` },
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				w := newWorld(t, oauthtest.Config{Policy: oauthtest.StrictFamily})
				s := w.source(func(c *transport.SourceConfig) {
					c.Refresher.(*endpoint.Endpoint).Base = damaging{w.srv.RoundTripper(), damage}
				})
				w.login(s, "ann")
				for range 3 {
					time.Sleep(2 * time.Hour)
					if _, err := s.Token(t.Context()); err != nil {
						t.Fatal(err)
					}
				}
				w.wantCounts(3, 0)
			})
		})
	}
}

// An answer that came whole and says nothing is not asked for again at once: it would be
// no better, and a strict provider would take that for theft.
func TestAnAnswerThatSaysNothingIsNotAskedForAgain(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newWorld(t, oauthtest.Config{Policy: oauthtest.StrictFamily})
		s := w.source(func(c *transport.SourceConfig) {
			c.Refresher.(*endpoint.Endpoint).Base = damaging{w.srv.RoundTripper(), func(string) string { return `{"status":0}` }}
		})
		w.login(s, "ann")
		time.Sleep(2 * time.Hour)
		if _, err := s.Token(t.Context()); !errors.Is(err, transport.ErrAmbiguous) {
			t.Fatal(err)
		}
		w.wantCounts(1, 0)
	})
}

// It may be the repetition of a request whose answer was lost that meets the one which is
// being worked on.
func TestStillProcessingALostRequest(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newWorld(t, oauthtest.Config{Policy: oauthtest.KeepOld})
		s := w.source()
		w.login(s, "ann")
		time.Sleep(2 * time.Hour)
		w.srv.Fault("/token", 1, oauthtest.AfterCommit(oauthtest.Drop))
		w.srv.Fault("/token", 1, oauthtest.Answer(400, jsonType, `{"error":"invalid_grant","error_description":"token request is already being processed"}`))
		if _, err := s.Token(t.Context()); !errors.Is(err, transport.ErrUnavailable) {
			t.Fatal(err)
		}
		time.Sleep(3 * time.Second)
		if _, err := s.Token(t.Context()); err != nil {
			t.Errorf("then: %v", err)
		}
		w.wantCounts(3, 0)
		if r := w.stored(s); r.Tombstone != nil || r.Attempt != nil {
			t.Errorf("stored: %v", r)
		}
	})
}

// A damaging RoundTripper changes the bodies of answers on their way.
type damaging struct {
	http.RoundTripper
	damage func(string) string
}

func (d damaging) RoundTrip(req *http.Request) (*http.Response, error) {
	resp, err := d.RoundTripper.RoundTrip(req)
	if err != nil {
		return nil, err
	}
	body, err := io.ReadAll(resp.Body)
	resp.Body.Close()
	if err != nil {
		return nil, err
	}
	return testkit.Respond(resp.StatusCode, d.damage(string(body))).RoundTrip(req)
}

// The page that a provider names for its refusal is told to whoever asks for a token (C08).
func TestARefusalNamesItsPage(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newWorld(t, defaultServer)
		s := w.source()
		w.login(s, "ann")
		time.Sleep(2 * time.Hour)
		w.srv.Fault("/token", 1, oauthtest.Answer(400, jsonType, `{"error":"invalid_grant","error_uri":"https://login.example.com/why"}`))
		for _, s := range []*transport.Source{s, s, w.source()} { // also one that reads of it in the cache
			_, err := s.Token(t.Context())
			if e, ok := errors.AsType[*transport.Error](err); !ok || e.Kind != transport.ErrLoginRequired || e.URI != "https://login.example.com/why" {
				t.Errorf("error %v", err)
			}
		}
	})
}
