package login

import (
	"context"
	"encoding/base64"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stayauth/stayauth/tokencache"
	"github.com/stayauth/stayauth/transport"
	"github.com/stayauth/stayauth/transport/endpoint"
	"github.com/stayauth/stayauth/transport/oauthtest"
	"github.com/stayauth/stayauth/transport/provider"
)

// W26: an ID token that does not fit makes the login unusable, and its tokens are revoked.
func TestW26IDToken(t *testing.T) {
	now := time.Now().Unix()
	for name, tt := range map[string]struct {
		change func(claims map[string]any)
		fits   bool
		says   string
	}{
		"as it is":               {func(map[string]any) {}, true, ""},
		"another nonce":          {func(c map[string]any) { c["nonce"] = "x" }, false, "nonce"},
		"no nonce":               {func(c map[string]any) { delete(c, "nonce") }, false, "nonce"},
		"another audience":       {func(c map[string]any) { c["aud"] = "other" }, false, "another client"},
		"no audience":            {func(c map[string]any) { delete(c, "aud") }, false, "another client"},
		"one of several":         {func(c map[string]any) { c["aud"] = []string{"other", "client"} }, false, "another client"},
		"for us, by us":          {func(c map[string]any) { c["aud"] = []string{"other", "client"}; c["azp"] = "client" }, true, ""},
		"made for another party": {func(c map[string]any) { c["azp"] = "other" }, false, "another client"},
		"another issuer":         {func(c map[string]any) { c["iss"] = "https://evil.example" }, false, "another issuer"},
		"expired":                {func(c map[string]any) { c["exp"] = now - 301 - 60 }, false, "clock"},
		"a clock a little off":   {func(c map[string]any) { c["exp"] = now - 240; c["iat"] = now + 240 }, true, ""},
		"issued in the future":   {func(c map[string]any) { c["iat"] = now + 301 + 60 }, false, "clock"},
		"no end":                 {func(c map[string]any) { delete(c, "exp") }, false, "clock"},
	} {
		t.Run(name, func(t *testing.T) {
			s := newSite(t, oauthtest.Config{}, 1, nil)
			s.srv.Fault("/token", 1, oauthtest.Edit(func(a map[string]any) { a["id_token"] = editToken(a["id_token"].(string), tt.change) }))
			b := s.surfer("ann")
			v := b.connect()
			tokens := s.srv.Current("user")
			if tt.fits {
				b.wantApp(v, "/")
			} else if b.wantPage(v, http.StatusInternalServerError, "do not understand each other"); s.record("ann", "") != nil || !strings.Contains(s.lastError(), tt.says) || !strings.Contains(s.log.String(), "level=WARN msg=\"stayauth: refused\"") {
				t.Errorf("it was stored, or whoever runs this is not told why: %s", s.lastError())
			}
			if s.srv.Valid(tokens.RefreshToken) != tt.fits {
				t.Errorf("the tokens are alive: %v", !tt.fits)
			}
		})
	}
}

// W26, shared with the other ways to log in.
func TestIDTokenErrors(t *testing.T) {
	w := newWorld(t, oauthtest.Config{Scope: "api openid"})
	w.cfg.Endpoint.Scopes = []string{"api", "openid"}
	w.srv.Fault("/token", 1, oauthtest.Edit(func(a map[string]any) {
		a["id_token"] = editToken(a["id_token"].(string), func(c map[string]any) { c["nonce"] = "x" })
	}))
	w.cfg.Open = func(_ context.Context, u string) error { go browse(u); return nil }
	_, err := Loopback(t.Context(), w.cfg)
	w.wantError(err, transport.ErrMisconfigured, "another login", "nonce")
	if w.srv.Valid(w.srv.Current("user").RefreshToken) {
		t.Error("the tokens are alive")
	}
}

// An offClock tells the time of a provider whose clock differs from ours so much.
type offClock time.Duration

func (o offClock) RoundTrip(req *http.Request) (*http.Response, error) {
	if req.Method != http.MethodHead {
		return http.DefaultTransport.RoundTrip(req)
	}
	date := time.Now().Add(time.Duration(o)).UTC().Format(http.TimeFormat)
	return &http.Response{StatusCode: http.StatusMethodNotAllowed, Header: http.Header{"Date": {date}}, Body: http.NoBody}, nil
}

// A clock that is off by 5 minutes, for which the ID token would be refused, is told before
// anything starts: there is no redirect, no cookie, nothing is stored and no token requested.
func TestWrongClockIsToldBeforeTheRedirect(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		off  time.Duration
		says string
	}{
		"on time":          {0, ""},
		"a little off":     {3 * time.Minute, ""},
		"5 minutes behind": {5 * time.Minute, "the clock of this machine is 5 minutes behind the provider's"},
		"5 minutes ahead":  {-5 * time.Minute, "the clock of this machine is 5 minutes ahead of the provider's"},
		"a day ahead":      {-24 * time.Hour, "the clock of this machine is 24 hours ahead of the provider's"},
		"years behind":     {4000 * 24 * time.Hour, "the clock of this machine is 4000 days behind the provider's"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel() // A wrong clock is watched for a moment.
			s := newSite(t, oauthtest.Config{}, 1, func(c *WebConfig) { c.Endpoint.Base = offClock(tt.off) })
			b := s.surfer("ann")
			if tt.says == "" {
				b.wantApp(b.connect(), "/")
				return
			}
			v := b.do(form("/connect"), always)
			b.wantPage(v, http.StatusInternalServerError, "Whoever runs this site has to see to that")
			if n := s.srv.Counts().TokenRequests; begun(v) || n > 0 || s.record("ann", "") != nil {
				t.Errorf("the login has begun, after %d token requests: %v", n, v.header)
			}
			if says := s.lastError(); !strings.Contains(says, tt.says) || !strings.Contains(says, "set the clock") || !strings.Contains(s.log.String(), "level=WARN msg=\"stayauth: refused\"") {
				t.Errorf("whoever runs this is told %q", says)
			}
		})
	}
}

// Without an ID token nothing in a login depends on the provider's clock. Whoever runs the
// site is warned once.
func TestWrongClockWithoutIDToken(t *testing.T) {
	t.Parallel()
	s := newSite(t, oauthtest.Config{}, 1, func(c *WebConfig) {
		c.Endpoint.Base, c.Endpoint.Scopes = offClock(time.Hour), []string{"api"}
	})
	for _, user := range []string{"ann", "bob"} {
		b := s.surfer(user)
		b.wantApp(b.connect(), "/")
	}
	if log := s.log.String(); strings.Count(log, "level=WARN") != 1 || !strings.Contains(log, "60 minutes behind") {
		t.Errorf("the log says:\n%s", log)
	}
}

// The other ways to log in tell of a wrong clock before the user has anything to do.
func TestWrongClockIsToldBeforeThePrompt(t *testing.T) {
	t.Parallel()
	for name, login := range map[string]func(context.Context, Config) (*tokencache.Record, error){"Loopback": Loopback, "Device": Device, "Paste": Paste} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, oauthtest.Config{Scope: "api openid"})
			w.cfg.Endpoint.Scopes = []string{"api", "openid"}
			w.cfg.Endpoint.Base = offClock(-10 * time.Minute)
			w.cfg.Open = func(context.Context, string) error { t.Error("the browser was opened"); return nil }
			w.cfg.OnPrompt = func(Prompt) { t.Error("the user was asked") }
			_, err := login(t.Context(), w.cfg)
			w.wantError(err, transport.ErrMisconfigured, "10 minutes ahead of the provider's", "set the clock")
			if said := w.out.String(); said != "" {
				t.Errorf("the user was told:\n%s", said)
			}
		})
	}
}

// Issuers that write their names in two ways are known.
func TestW26SameIssuer(t *testing.T) {
	const entra = "https://login.microsoftonline.com/"
	for _, tt := range []struct {
		iss, issuer, tenant string
		same                bool
	}{
		{"https://a.example", "https://a.example", "", true},
		{"https://a.example/", "https://a.example", "", false},
		{"accounts.google.com", "https://accounts.google.com", "", true},
		{entra + "9122/v2.0", entra + "common/v2.0", "9122", true},
		{entra + "9122/v2.0", entra + "contoso.onmicrosoft.com/v2.0", "9122", true},
		{entra + "9122/v2.0", entra + "common/v2.0", "9123", false},
		{entra + "9122/v2.0", entra + "common/v2.0", "", false},
		{"https://evil.example/9122/v2.0", entra + "common/v2.0", "9122", false},
		{"https://a.example/9122/x", "https://a.example/common/x", "9122", false},
	} {
		if same := sameIssuer(tt.iss, tt.issuer, tt.tenant); same != tt.same {
			t.Errorf("%+v: %v", tt, same)
		}
	}
}

// Whatever a provider sends as an ID token, reading it is safe, and only one that fits is
// accepted.
func FuzzIDToken(f *testing.F) {
	r := &request{flow: &flow{Config: Config{
		Provider: &provider.Provider{Issuer: "https://a.example"},
		Endpoint: &endpoint.Endpoint{ClientID: "client", Scopes: []string{"openid"}},
	}}, verifier: "v"}
	now := time.Now().Unix()
	f.Add(fmt.Sprintf(`{"iss":"https://a.example","aud":"client","nonce":%q,"exp":%d}`, r.nonce(), now+60))
	f.Add(fmt.Sprintf(`{"iss":"a.example","aud":["client"],"nonce":%q,"exp":1e300,"iat":-1e300}`, r.nonce()))
	f.Add(`{"aud":{},"exp":"x"}`)
	f.Add(`null`)
	f.Fuzz(func(t *testing.T, claims string) {
		token := tokencache.Secret("e30." + base64.RawURLEncoding.EncodeToString([]byte(claims)) + ".c2ln")
		err := r.checkIDToken(token)
		if err == nil && !strings.Contains(claims, "client") && !strings.Contains(claims, `\`) {
			t.Errorf("accepted %s", claims)
		}
		if err != nil && strings.Contains(err.Error(), r.nonce()) {
			t.Errorf("the error is %v", err)
		}
	})
}
