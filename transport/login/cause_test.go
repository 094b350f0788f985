package login

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/stayauth/stayauth/tokencache"
	"github.com/stayauth/stayauth/transport"
	"github.com/stayauth/stayauth/transport/oauthtest"
)

const stronger = `{"access_token":{"acrs":{"essential":true,"value":"c1"}}}`

// demanding are APIs that want what no refresh brings.
var demanding = map[string]func(*oauthtest.Server){
	"scope":   func(s *oauthtest.Server) { s.DemandScope("mail") },
	"step-up": func(s *oauthtest.Server) { s.DemandAuthentication("gold silver", time.Hour) },
	"claims":  func(s *oauthtest.Server) { s.DemandClaims(stronger) },
}

// call calls the API with the token of a login, and returns its challenge.
func (w *world) call(rec *tokencache.Record) error {
	w.t.Helper()
	req, _ := http.NewRequestWithContext(w.t.Context(), "GET", w.srv.APIURL(), nil)
	req.Header.Set("Authorization", "Bearer "+string(rec.AccessToken))
	resp, err := cmp.Or(w.cfg.Endpoint.Base, http.RoundTripper(http.DefaultTransport)).RoundTrip(req)
	if err != nil {
		w.t.Fatal(err)
	}
	resp.Body.Close()
	if resp.StatusCode == http.StatusOK {
		return nil
	}
	return fmt.Errorf("GET: %w", transport.ParseChallenges(resp.Header)[0])
}

// C44, C100, C103, C104: what an API demands is requested by each way to log in, the login that
// results is what the API wants, and it still has what the former one had.
func TestAChallengeIsAnsweredByALogin(t *testing.T) {
	provided := oauthtest.Config{Scope: "openid api files mail"}
	ways := map[string]func(w *world) (*tokencache.Record, error){
		"loopback": func(w *world) (*tokencache.Record, error) {
			w.cfg.Open = func(_ context.Context, u string) error { go browse(u); return nil }
			return Loopback(w.t.Context(), w.cfg)
		},
		"paste": func(w *world) (*tokencache.Record, error) {
			w.user(func(u *url.URL) string { return u.String() + "\n" })
			return Paste(w.t.Context(), w.cfg)
		},
		"device": func(w *world) (*tokencache.Record, error) {
			w.cfg.OnPrompt = func(p Prompt) { w.srv.ApproveDevice(p.UserCode, "user") }
			return Device(w.t.Context(), w.cfg)
		},
	}
	for name, demand := range demanding {
		for way, login := range ways {
			t.Run(name+" by "+way, func(t *testing.T) {
				test := func(w *world) {
					w.cfg.Endpoint.Scopes = []string{"openid", "api"}
					w.cfg.Endpoint.Params = url.Values{"resource": {"https://api.test/"}}
					w.cfg.AuthParams = url.Values{"claims": {`{"id_token":{"auth_time":null}}`}}
					former := w.srv.Login("user").Record()
					former.Scope = "openid api files"
					w.srv.RevokeFamily(string(former.AccessToken))
					first, err := login(w)
					if err != nil {
						t.Fatal(err)
					}
					demand(w.srv)
					if w.cfg.Cause = w.call(first); w.cfg.Cause == nil {
						t.Fatal("the API demands nothing")
					}
					w.cfg.Former = former
					rec, err := login(w)
					if err != nil {
						t.Fatal(err)
					}
					if err := w.call(rec); err != nil {
						t.Errorf("after the login: %v", err)
					}
					for _, scope := range []string{"openid", "api", "files"} {
						if !strings.Contains(rec.Scope, scope) {
							t.Errorf("the scopes are %q", rec.Scope)
						}
					}
				}
				if way == "device" {
					inBubble(t, provided, func(t *testing.T, w *deviceWorld) { w.t = t; test(w.world) })
					return
				}
				test(newWorld(t, provided))
			})
		}
	}
}

// requestedBy returns the parameters of the authorization request of cfg.
func requestedBy(t *testing.T, cfg Config) (url.Values, error) {
	t.Helper()
	f, err := newFlow(t.Context(), cfg)
	if err != nil {
		return nil, err
	}
	return f.requested(), nil
}

// C100, C104: the parameters of the next login, for all that a challenge may say.
func TestC100ParametersOfTheNextLogin(t *testing.T) {
	w := newWorld(t, oauthtest.Config{})
	w.cfg.Endpoint.Params = url.Values{"resource": {"https://api.test/"}}
	w.cfg.AuthParams = url.Values{"acr_values": {"bronze gold"}, "login_hint": {"ann"}}
	challenge := func(params string) error {
		return transport.ParseChallenges(http.Header{"Www-Authenticate": {"Bearer " + params}})[0]
	}
	long := strings.Repeat("x", 3<<10)
	for name, tt := range map[string]struct {
		cause error
		want  url.Values // besides those of the configuration
	}{
		"nothing":         {nil, nil},
		"login required":  {&transport.Error{Kind: transport.ErrLoginRequired}, nil},
		"scopes":          {challenge(`error="insufficient_scope", scope="mail api"`), url.Values{"scope": {"api mail files"}}},
		"scopes, shouted": {challenge(`error="INSUFFICIENT_SCOPE", scope="mail"`), url.Values{"scope": {"api mail files"}}},
		"step-up": {challenge(`error="insufficient_user_authentication", acr_values="gold", max_age=0, scope="mail"`),
			url.Values{"acr_values": {"gold"}, "max_age": {"0"}, "scope": {"api mail files"}}},
		"step-up without a code": {challenge(`acr_values="gold"`), url.Values{"acr_values": {"gold"}}},
		"claims":                 {challenge(`error="insufficient_claims", claims="e30", scope="mail"`), url.Values{"claims": {"{}"}}},
		"several challenges": {fmt.Errorf("GET: %w", errors.Join(challenge(`realm="x"`), challenge(`error="insufficient_scope", scope="mail"`), challenge(`max_age=7`))),
			url.Values{"scope": {"api mail files"}}},
		"claims of an error":   {&transport.Error{Kind: transport.ErrLoginRequired, Claims: stronger}, url.Values{"claims": {stronger}}},
		"claims and step-up":   {challenge(`max_age="7", claims="eyJhIjpudWxsfQ"`), url.Values{"claims": {`{"a":null}`}, "max_age": {"7"}}},
		"max_age that is none": {challenge(`error="insufficient_scope", scope="mail", max_age="-1"`), url.Values{"scope": {"api mail files"}}},
		"acr_values too long":  {challenge(`max_age=7, acr_values="` + long + `"`), url.Values{"max_age": {"7"}}},
		"scopes too long":      {challenge(`max_age=7, scope="` + long + `"`), url.Values{"max_age": {"7"}}},
	} {
		cfg := w.cfg
		cfg.Cause, cfg.Former = tt.cause, &tokencache.Record{Scope: "files api"}
		got, err := requestedBy(t, cfg)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		want := url.Values{"resource": {"https://api.test/"}, "acr_values": {"bronze gold"}, "login_hint": {"ann"}, "scope": {"api files"}}
		for param, values := range tt.want {
			want[param] = values
		}
		if got.Encode() != want.Encode() {
			t.Errorf("%s: requested is\n%v, want\n%v", name, got, want)
		}
		if len(w.cfg.Endpoint.Scopes) != 1 || w.cfg.AuthParams.Get("acr_values") != "bronze gold" {
			t.Fatalf("%s: it changed the configuration: %v", name, w.cfg)
		}
	}
	for _, tt := range []struct{ provider, program, api, want string }{
		{"", "300", "600", "300"}, {"", "300", "60", "60"}, {"", "300", "0", "0"}, {"", "0", "600", "0"}, {"300", "", "600", "300"},
		{"300", "900", "600", "600"}, {"", "any", "600", "600"}, {"", "", "600", "600"},
	} { // C100: what is longer ago than the program wants is not what an API can allow.
		cfg, p := w.cfg, *w.cfg.Provider
		cfg.Provider, cfg.AuthParams, cfg.Cause = &p, nil, challenge(`max_age=`+tt.api)
		if tt.provider != "" {
			p.AuthParams = url.Values{"max_age": {tt.provider}}
		}
		if tt.program != "" {
			cfg.AuthParams = url.Values{"max_age": {tt.program}}
		}
		if got, err := requestedBy(t, cfg); err != nil || got.Get("max_age") != tt.want {
			t.Errorf("%+v: requested is %v, %v", tt, got, err)
		}
	}
	for _, tt := range []struct{ provider, program, api, want string }{
		{"", "", "silver gold", "silver gold"}, {"", "gold", "silver gold", "gold"}, {"", "gold silver bronze", "bronze gold", "gold bronze"},
		{"bronze", "", "bronze", "bronze"}, {"bronze", "gold", "gold", "gold"}, {"", " ", "gold", "gold"},
		{"", "gold", "bronze", ""}, {"", "gold", "golden", ""}, {"gold", "", "bronze", ""},
	} { // RFC 9470 section 4: nor can an API allow a login in a way that the program does not accept.
		cfg, p := w.cfg, *w.cfg.Provider
		cfg.Provider, cfg.AuthParams, cfg.Cause = &p, nil, challenge(`acr_values="`+tt.api+`"`)
		if tt.provider != "" {
			p.AuthParams = url.Values{"acr_values": {tt.provider}}
		}
		if tt.program != "" {
			cfg.AuthParams = url.Values{"acr_values": {tt.program}}
		}
		got, err := requestedBy(t, cfg)
		if got.Get("acr_values") != tt.want || (tt.want == "") != errors.Is(err, transport.ErrMisconfigured) {
			t.Errorf("%+v: requested is %v, %v", tt, got, err)
		}
		if err != nil && !strings.Contains(err.Error(), tt.api) {
			t.Errorf("%+v: the error does not say what is demanded: %v", tt, err)
		}
	}
	if _, err := Auto(t.Context(), Config{Endpoint: w.cfg.Endpoint, Cause: challenge(`max_age=7`), Out: io.Discard}); !errors.Is(err, transport.ErrMisconfigured) {
		t.Errorf("without a Provider: %v", err)
	}
	for name, cause := range map[string]error{
		"an outage":      &transport.Error{Kind: transport.ErrUnavailable},
		"anything":       errors.New("anything"),
		"a bad token":    challenge(`error="invalid_token", scope="mail"`),
		"no scope":       challenge(`error="insufficient_scope"`),
		"only too long":  challenge(`error="insufficient_scope", scope="` + long + `"`),
		"nothing at all": challenge(`realm="x"`),
	} {
		cfg := w.cfg
		cfg.Cause = cause
		if _, err := requestedBy(t, cfg); err == nil || err.Error() != cause.Error() {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// C102: what the program asks for and what is demanded go together, or are an error.
func TestC102ClaimsThatContradict(t *testing.T) {
	w := newWorld(t, oauthtest.Config{})
	w.cfg.AuthParams = url.Values{"claims": {`{"access_token":{"acrs":"c2"}}`}}
	w.cfg.Cause = &transport.Error{Kind: transport.ErrLoginRequired, Claims: stronger}
	_, err := requestedBy(t, w.cfg)
	w.wantError(err, transport.ErrMisconfigured, "Config.AuthParams", "acrs")
}

// C104: the same demand right after the login that was made for it is an error and no login,
// because the next one would not help either. So it is in another process.
func TestC104AttemptsAreLimited(t *testing.T) {
	inBubble(t, oauthtest.Config{Scope: "api mail"}, func(t *testing.T, w *deviceWorld) {
		w.cfg.OnPrompt = func(p Prompt) { w.srv.ApproveDevice(p.UserCode, "user") }
		memory, err := tokencache.New(new(tokencache.Memory), nil)
		if err != nil {
			t.Fatal(err)
		}
		source, err := transport.NewSource(transport.SourceConfig{Cache: memory, Refresher: w.cfg.Endpoint})
		if err != nil {
			t.Fatal(err)
		}
		login := func(cause error) error {
			w.cfg.Cause = cause
			status, err := source.Status(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			if status.State != transport.StateEmpty {
				if w.cfg.Former, _, err = memory.Load(t.Context(), status.Key); err != nil {
					t.Fatal(err)
				}
			}
			rec, err := Device(t.Context(), w.cfg)
			if err == nil {
				err = source.Login(t.Context(), rec)
			}
			return err
		}
		challenge := func(params string) error {
			return transport.ParseChallenges(http.Header{"Www-Authenticate": {"Bearer " + params}})[0]
		}
		scope, old := challenge(`error="insufficient_scope", scope="mail"`), challenge(`max_age=20`)
		for i, step := range []struct {
			after    time.Duration
			cause    error
			repeated bool
		}{
			{0, scope, false},
			{0, scope, true},
			{50 * time.Second, challenge(`error="insufficient_scope", scope="mail", realm="other"`), true},
			{11 * time.Second, scope, false},
			{0, old, false}, // another demand
			{0, nil, false}, // the user wants it
			{0, old, false},
			{0, old, true},
			{21 * time.Second, old, false}, // by now it is a new demand
			{0, challenge(`max_age=1`), false},
			{5 * time.Second, challenge(`max_age=1`), true}, // The provider has ignored it, or the API demands too much.
			{6 * time.Second, challenge(`max_age=1`), false},
		} {
			time.Sleep(step.after)
			err := login(step.cause)
			if step.repeated != errors.Is(err, RefusedRepeated) || !step.repeated && err != nil {
				t.Errorf("login %d: %v", i, err)
			}
			if step.repeated {
				wantError(t, err, transport.ErrLoginRequired, "find out why")
			}
		}
	})
}

// A step-up that somebody else answers does not put that user's login in the place of the
// former one, and leaves no login behind.
func TestAnotherUserAnswersTheChallenge(t *testing.T) {
	for way, login := range map[string]func(w *deviceWorld) (*tokencache.Record, error){
		"device": func(w *deviceWorld) (*tokencache.Record, error) {
			w.cfg.OnPrompt = func(p Prompt) { w.srv.ApproveDevice(p.UserCode, "bob") }
			return Device(w.t.Context(), w.cfg)
		},
		"code": func(w *deviceWorld) (*tokencache.Record, error) {
			w.cfg.AuthParams = url.Values{"login_hint": {"bob"}}
			f, err := newFlow(w.t.Context(), w.cfg)
			if err != nil {
				return nil, err
			}
			r, err := f.newRequest(w.t.Context(), "http://127.0.0.1:9/callback")
			if err != nil {
				return nil, err
			}
			req, _ := http.NewRequestWithContext(w.t.Context(), "GET", r.url, nil)
			resp, err := w.cfg.Endpoint.Base.RoundTrip(req)
			if err != nil {
				return nil, err
			}
			resp.Body.Close()
			answer, _ := resp.Location()
			return r.exchange(w.t.Context(), answer.Query().Get("code"))
		},
	} {
		t.Run(way, func(t *testing.T) {
			inBubble(t, oauthtest.Config{Scope: "openid api mail"}, func(t *testing.T, w *deviceWorld) {
				w.t = t
				w.cfg.Endpoint.Scopes = []string{"openid", "api"}
				ann := w.srv.Login("ann")
				w.cfg.Former = ann.Record()
				w.cfg.Cause = transport.ParseChallenges(http.Header{"Www-Authenticate": {`Bearer error="insufficient_scope", scope="mail"`}})[0]
				rec, err := login(w)
				if rec != nil || !errors.Is(err, RefusedOtherAccount) {
					t.Fatalf("got %v, %v", rec, err)
				}
				w.wantError(err, transport.ErrLoginRequired, "same user")
				if w.srv.Valid(w.srv.Current("bob").AccessToken) || !w.srv.Valid(ann.AccessToken) {
					t.Error("bob's login is not ended, or ann's is")
				}
			})
		})
	}
}

// C101: a provider that cannot authenticate the user as demanded says so to the user, and the
// program is not misconfigured.
func TestC101UnmetAuthenticationRequirements(t *testing.T) {
	w := newWorld(t, oauthtest.Config{})
	w.cfg.Cause = transport.ParseChallenges(http.Header{"Www-Authenticate": {`Bearer acr_values="platinum"`}})[0]
	w.user(func(u *url.URL) string {
		return with(u, "code", "", "error", "unmet_authentication_requirements") + "\n"
	})
	_, err := Paste(t.Context(), w.cfg)
	w.wantError(err, transport.ErrLoginRequired, "unmet_authentication_requirements", "in the way that is asked for")
}

// An API says what it likes. Nothing of it gets into the request that is not bounded, and nothing
// that changes the flow.
func FuzzCauseOf(f *testing.F) {
	f.Add(`Bearer error="insufficient_scope", scope="a b"`)
	f.Add(`Bearer error="insufficient_user_authentication", acr_values="x", max_age="5", claims="e30"`)
	f.Fuzz(func(t *testing.T, header string) {
		for _, challenge := range transport.ParseChallenges(http.Header{"Www-Authenticate": {header}}) {
			c, ok := causeOf(challenge)
			if ok == (len(c.params)+len(c.scopes) == 0) {
				t.Errorf("%v: %v, %v", challenge, c, ok)
			}
			for name := range c.params {
				if name != "claims" && name != "acr_values" && name != "max_age" || len(c.params.Get(name)) > 2<<10 {
					t.Errorf("%v: %s=%q", challenge, name, c.params.Get(name))
				}
			}
			if len(strings.Join(c.scopes, " ")) > 2<<10 {
				t.Errorf("%v: %d scopes", challenge, len(c.scopes))
			}
		}
	})
}
