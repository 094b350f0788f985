package login

import (
	"context"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/stayauth/stayauth/tokencache"
	"github.com/stayauth/stayauth/transport"
	"github.com/stayauth/stayauth/transport/endpoint"
	"github.com/stayauth/stayauth/transport/oauthtest"
)

var wantsProofs = oauthtest.Config{AuthStyle: oauthtest.AuthNone,
	DPoP: oauthtest.DPoP{Mode: oauthtest.DPoPRequired, TokenNonces: true, APINonces: true}}

// wantBound checks that the tokens of a login are bound to a key that is stored with them, and
// returns its thumbprint.
func (w *world) wantBound(rec *tokencache.Record, err error) string {
	w.t.Helper()
	w.wantLogin(rec, err)
	private, thumbprint := rec.Proof()
	if private == "" || thumbprint == "" || rec.TokenType != "DPoP" || w.srv.Current(w.account()).Thumbprint != thumbprint {
		w.t.Errorf("the login is bound to %q, its type is %q", thumbprint, rec.TokenType)
	}
	if c := w.srv.Counts(); c.BadProofs > 0 || c.RepeatedProofs > 0 || c.StrayNonces > 0 {
		w.t.Errorf("the server has seen %+v", c)
	}
	return thumbprint
}

func (w *world) account() string { return w.cfg.AuthParams.Get("login_hint") }

// Each login has a key of its own, which the authorization request names whether it is pushed or
// goes through the browser, and the login is exchanged with it (C68, C69).
func TestLoginWithAKey(t *testing.T) {
	seen := map[string]bool{}
	for _, pushed := range []bool{false, true} {
		for range 2 {
			w := newWorld(t, wantsProofs)
			w.cfg.Endpoint.DPoP, w.cfg.PAR = new(endpoint.DPoP), pushed
			w.cfg.AuthParams = url.Values{"login_hint": {"alice"}}
			var request string
			w.cfg.Open = func(_ context.Context, u string) error {
				request = u
				go browse(u)
				return nil
			}
			thumbprint := w.wantBound(Loopback(t.Context(), w.cfg))
			if u, err := url.Parse(request); err != nil || !pushed && u.Query().Get("dpop_jkt") != thumbprint || pushed && !u.Query().Has("request_uri") {
				t.Errorf("the request is %s, the key %s", request, thumbprint)
			}
			if seen[thumbprint] {
				t.Error("two logins have one key")
			}
			seen[thumbprint] = true
		}
	}
}

func TestPasteWithAKey(t *testing.T) {
	w := newWorld(t, wantsProofs)
	w.cfg.Endpoint.DPoP = new(endpoint.DPoP)
	w.cfg.AuthParams = url.Values{"login_hint": {"alice"}}
	w.user(func(u *url.URL) string { return u.String() + "\n" })
	w.wantBound(Paste(t.Context(), w.cfg))
}

func TestDeviceLoginWithAProof(t *testing.T) {
	inBubble(t, wantsProofs, func(t *testing.T, w *deviceWorld) {
		w.cfg.Endpoint.DPoP = new(endpoint.DPoP)
		w.cfg.AuthParams = url.Values{"login_hint": {"alice"}}
		w.after(12*time.Second, func(p Prompt) { w.srv.ApproveDevice(p.UserCode, "alice") })
		w.wantBound(Device(t.Context(), w.cfg))
	})
}

// A parameter of the program cannot name another key.
func TestKeyIsNotForParameters(t *testing.T) {
	w := newWorld(t, oauthtest.Config{})
	w.cfg.AuthParams = url.Values{"dpop_jkt": {"x"}}
	_, err := Loopback(t.Context(), w.cfg)
	w.wantError(err, transport.ErrMisconfigured, "dpop_jkt")
}

// The key of a web login is in the sealed cookie of its attempt, so the answer may come to any
// replica: the login is exchanged, stored and used with that key. The cookies of many attempts
// still fit (C68).
func TestWebLoginWithAKey(t *testing.T) {
	s := newSite(t, wantsProofs, 2, func(cfg *WebConfig) { cfg.Endpoint.DPoP = new(endpoint.DPoP) })
	b := s.surfer("ann")
	seen := map[string]bool{}
	for range 6 {
		request := b.start("return", "/"+strings.Repeat("r", 200))
		thumbprint := request.Query().Get("dpop_jkt")
		if thumbprint == "" || seen[thumbprint] {
			t.Fatalf("the request names the key %q", thumbprint)
		}
		seen[thumbprint] = true
		length := 0
		for _, c := range b.cookies() {
			length += len(c.String()) + len("; ")
		}
		if length > 4<<10 {
			t.Errorf("cookies of %d bytes", length)
		}
		b.open(b.consent(request).String())
		rec := s.record("ann", "")
		if rec == nil {
			t.Fatal(s.lastError())
		}
		if _, is := rec.Proof(); is != thumbprint {
			t.Errorf("the login is bound to %q, not to the key of its request", is)
		}
	}
	for _, r := range s.replicas {
		rt, err := transport.New(transport.Config{Pool: r.pool, Origins: []string{s.srv.APIOrigin()}})
		if err != nil {
			t.Fatal(err)
		}
		req := get(s.srv.APIURL())
		resp, err := (&http.Client{Transport: rt}).Do(req.WithContext(transport.WithAccount(t.Context(), PoolAccount("ann", ""))))
		if err != nil || resp.StatusCode != http.StatusOK {
			t.Fatalf("the API answers %v, %v", resp, err)
		}
		resp.Body.Close()
	}
	if c := s.srv.Counts(); c.BadProofs > 0 || c.RepeatedProofs > 0 || c.StrayNonces > 0 || c.Downgrades > 0 {
		t.Errorf("the server has seen %+v", c)
	}
}

// While DPoP is being turned on or off, replicas with it and without it share the attempts. An
// answer that comes to one that cannot prove anything is refused, and costs nothing: at the next
// one that can, it is good.
func TestWebLoginWhileDPoPIsTurnedOn(t *testing.T) {
	s := newSite(t, oauthtest.Config{AuthStyle: oauthtest.AuthNone, DPoP: oauthtest.DPoP{Mode: oauthtest.DPoPOptional}}, 1, nil)
	without := s.replicas[0]
	with := s.replica(s.srv, func(cfg *WebConfig) { cfg.Endpoint.DPoP = new(endpoint.DPoP) })
	for _, tt := range []struct {
		name      string
		begins    *replica
		asks      bool // for tokens that are bound
		first     *replica
		refused   bool
		thenBound bool
	}{
		{"it is on everywhere", with, true, with, false, true},
		{"it was off", without, false, with, false, true},
		{"it was on", with, true, without, true, true},
		{"it is off everywhere", without, false, without, false, false},
	} {
		user := strings.ReplaceAll(tt.name, " ", "-")
		b := s.surfer(user)
		s.replicas = []*replica{tt.begins}
		request := b.start()
		if request.Query().Has("dpop_jkt") != tt.asks {
			t.Errorf("%s: the request is %s", tt.name, request)
		}
		before := s.srv.Counts().TokenRequests
		s.replicas = []*replica{tt.first}
		answer := b.consent(request).String()
		b.open(answer)
		if tt.refused {
			if s.record(user, "") != nil || s.srv.Counts().TokenRequests != before {
				t.Errorf("%s: the replica without DPoP has used the answer", tt.name)
			}
			s.replicas = []*replica{with}
			b.open(answer)
		}
		rec := s.record(user, "")
		if rec == nil {
			t.Errorf("%s: %v", tt.name, s.lastError())
			continue
		}
		if _, thumbprint := rec.Proof(); (thumbprint != "") != tt.thenBound {
			t.Errorf("%s: the login is bound to %q", tt.name, thumbprint)
		}
	}
}
