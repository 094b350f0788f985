package login

import (
	"context"
	"errors"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stayauth/stayauth/tokencache"
	"github.com/stayauth/stayauth/transport"
	"github.com/stayauth/stayauth/transport/oauthtest"
	"github.com/stayauth/stayauth/transport/provider"
)

// A deviceWorld is a provider in memory, with simulated time, and a program without
// a browser.
type deviceWorld struct {
	*world
	polls []time.Duration // since the start
}

func inBubble(t *testing.T, cfg oauthtest.Config, run func(t *testing.T, w *deviceWorld)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		srv := oauthtest.New(cfg)
		defer srv.Close()
		start := time.Now()
		w := &deviceWorld{world: &world{t: t, srv: srv, out: new(output)}}
		memory := srv.RoundTripper()
		defer memory.CloseIdleConnections()
		base := roundTripper(func(r *http.Request) (*http.Response, error) {
			if r.URL.Path == "/token" {
				w.polls = append(w.polls, time.Since(start).Round(time.Second))
			}
			return memory.RoundTrip(r)
		})
		p, err := provider.Discovery{Base: base}.Provider(t.Context(), srv.URL())
		if err != nil {
			t.Fatal(err)
		}
		p.Name = "Example"
		e := p.Endpoint(srv.ClientID(), tokencache.Secret(srv.ClientSecret()), "api")
		e.Base = base
		w.cfg = Config{Provider: p, Endpoint: e, Out: w.out, Open: func(context.Context, string) error {
			t.Error("a browser was opened")
			return nil
		}}
		run(t, w)
		if said := w.out.String(); containsAny(said, srv.Secrets()) {
			t.Errorf("the terminal shows a secret:\n%s", said)
		}
	})
}

// after lets something happen some time after the user was shown the code.
func (w *deviceWorld) after(d time.Duration, f func(Prompt)) {
	w.cfg.OnPrompt = func(p Prompt) { time.AfterFunc(d, func() { f(p) }) }
}

func (w *deviceWorld) wantPolls(want ...int) {
	w.t.Helper()
	if len(w.polls) != len(want) {
		w.t.Fatalf("polled at %v, want at the seconds %v", w.polls, want)
	}
	for i, s := range want {
		if w.polls[i] != time.Duration(s)*time.Second {
			w.t.Fatalf("polled at %v, want at the seconds %v", w.polls, want)
		}
	}
}

// C30, C31.
func TestDevice(t *testing.T) {
	inBubble(t, oauthtest.Config{}, func(t *testing.T, w *deviceWorld) {
		var shown Prompt
		w.after(12*time.Second, func(p Prompt) { shown = p; w.srv.ApproveDevice(p.UserCode, "alice") })
		rec, err := Device(t.Context(), w.cfg)
		w.wantLogin(rec, err)
		w.wantPolls(5, 10, 15)
		for _, part := range []string{shown.URL, shown.UserCode} {
			if part == "" || !strings.Contains(w.out.String(), part) {
				t.Errorf("the user was not shown %q:\n%s", part, w.out)
			}
		}
		if !strings.Contains(shown.CompleteURL, shown.UserCode) || shown.Expiry.IsZero() {
			t.Errorf("the prompt is %+v", shown)
		}
	})
}

func TestDeviceDecisions(t *testing.T) {
	tests := []struct {
		name  string
		fault oauthtest.Fault // of the polls
		act   func(w *deviceWorld, p Prompt)
		kind  transport.Kind
		says  string
		polls []int
	}{
		{"refused", nil, func(w *deviceWorld, p Prompt) { w.srv.DenyDevice(p.UserCode) },
			transport.ErrLoginRequired, "allow what is asked for", []int{5}},
		{"refused at Entra", oauthtest.Answer(400, "application/json", `{"error":"authorization_declined"}`), nil,
			transport.ErrLoginRequired, "allow what is asked for", []int{5}},
		{"expired early", oauthtest.Answer(400, "application/json", `{"error":"expired_token"}`), nil,
			transport.ErrLoginRequired, "not entered in time", []int{5}},
		{"code not known", oauthtest.Answer(400, "application/json", `{"error":"invalid_grant"}`), nil,
			transport.ErrLoginRequired, "invalid_grant", []int{5}},
		{"client not allowed", oauthtest.Answer(400, "application/json", `{"error":"unauthorized_client"}`), nil,
			transport.ErrMisconfigured, "unauthorized_client", []int{5}},
		{"GitHub", oauthtest.Answer(200, "application/json", `{"error":"device_flow_disabled"}`), nil,
			transport.ErrMisconfigured, "device_flow_disabled", []int{5}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			inBubble(t, oauthtest.Config{}, func(t *testing.T, w *deviceWorld) {
				if tt.fault != nil {
					w.srv.Fault("/token", 0, tt.fault)
				}
				if tt.act != nil {
					w.after(0, func(p Prompt) { tt.act(w, p) })
				}
				_, err := Device(t.Context(), w.cfg)
				w.wantError(err, tt.kind, tt.says)
				w.wantPolls(tt.polls...)
			})
		})
	}
}

// RFC 8628 section 3.2 gives the interval in seconds: a fraction of one is no
// invitation to ask a thousand times.
func TestDevicePollsOnceASecondAtMost(t *testing.T) {
	for _, interval := range []any{0.001, "0.5", 1} {
		inBubble(t, oauthtest.Config{}, func(t *testing.T, w *deviceWorld) {
			w.srv.Fault("/device_authorization", 1, oauthtest.Edit(func(a map[string]any) { a["interval"], a["expires_in"] = interval, 5 }))
			w.srv.Fault("/token", 0, oauthtest.Answer(400, "application/json", `{"error":"authorization_pending"}`))
			if _, err := Device(t.Context(), w.cfg); !errors.Is(err, transport.ErrLoginRequired) {
				t.Error(err)
			}
			w.wantPolls(1, 2, 3, 4)
		})
	}
}

// C31: slow_down counts for all later polls.
func TestDeviceSlowDown(t *testing.T) {
	inBubble(t, oauthtest.Config{}, func(t *testing.T, w *deviceWorld) {
		w.srv.Fault("/token", 2, oauthtest.Answer(400, "application/json", `{"error":"slow_down"}`))
		w.after(50*time.Second, func(p Prompt) { w.srv.ApproveDevice(p.UserCode, "alice") })
		rec, err := Device(t.Context(), w.cfg)
		w.wantLogin(rec, err)
		w.wantPolls(5, 15, 30, 45, 60)
	})
}

// C31: an outage makes polls rarer, and does not end the login. After it, they are as
// often as before.
func TestDeviceOutage(t *testing.T) {
	for name, fault := range map[string]oauthtest.Fault{
		"unavailable": oauthtest.Status(503, 0), "no answer": oauthtest.Drop, "web page": oauthtest.HTML,
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, oauthtest.Config{}, func(t *testing.T, w *deviceWorld) {
				w.srv.Fault("/token", 5, fault)
				w.after(170*time.Second, func(p Prompt) { w.srv.ApproveDevice(p.UserCode, "alice") })
				rec, err := Device(t.Context(), w.cfg)
				w.wantLogin(rec, err)
				w.wantPolls(5, 15, 35, 75, 135, 195)
				if n := strings.Count(w.out.String(), "Still trying"); n != 1 {
					t.Errorf("the user was told of the outage %d times:\n%s", n, w.out)
				}
			})
		})
	}
	t.Run("as long as asked", func(t *testing.T) {
		inBubble(t, oauthtest.Config{}, func(t *testing.T, w *deviceWorld) {
			w.srv.Fault("/token", 1, oauthtest.Status(429, 90*time.Second))
			w.after(0, func(p Prompt) { w.srv.ApproveDevice(p.UserCode, "alice") })
			rec, err := Device(t.Context(), w.cfg)
			w.wantLogin(rec, err)
			w.wantPolls(5, 95)
		})
	})
	t.Run("to the end", func(t *testing.T) {
		inBubble(t, oauthtest.Config{}, func(t *testing.T, w *deviceWorld) {
			w.after(time.Second, func(Prompt) { w.srv.Down() })
			_, err := Device(t.Context(), w.cfg)
			w.wantError(err, transport.ErrLoginRequired, "not completed in time")
		})
	})
}

func TestDeviceEnds(t *testing.T) {
	inBubble(t, oauthtest.Config{}, func(t *testing.T, w *deviceWorld) {
		start := time.Now()
		_, err := Device(t.Context(), w.cfg)
		w.wantError(err, transport.ErrLoginRequired, "not completed in time")
		if d := time.Since(start); d != 10*time.Minute { // expires_in
			t.Errorf("it ended after %v", d)
		}
		w.cfg.Timeout = time.Minute
		start = time.Now()
		_, err = Device(t.Context(), w.cfg)
		w.wantError(err, transport.ErrLoginRequired, "not completed in time")
		if d := time.Since(start); d != time.Minute {
			t.Errorf("it ended after %v", d)
		}
		ctx, cancel := context.WithCancel(t.Context())
		time.AfterFunc(7*time.Second, cancel)
		_, err = Device(ctx, w.cfg)
		w.wantError(err, transport.ErrLoginRequired, context.Canceled.Error())
	})
}

// What providers answer to the request for a code.
func TestDeviceAuthorization(t *testing.T) {
	const json = "application/json"
	tests := []struct {
		name, answer string
		status       int
		want         Prompt
		interval     time.Duration
		kind         transport.Kind
		says         string
	}{
		{name: "Google", status: 200,
			answer: `{"device_code":"dddddddddddddddd","user_code":"GQVQ-JKEC","expires_in":"1800","interval":5,"verification_url":"https://www.google.com/device"}`,
			want:   Prompt{URL: "https://www.google.com/device", UserCode: "GQVQ-JKEC"}, interval: 5 * time.Second},
		{name: "no interval", status: 200,
			answer: `{"device_code":"dddddddddddddddd","user_code":"A","expires_in":1800,"verification_uri":"https://as.test/d","verification_uri_complete":"https://as.test/d?c=A"}`,
			want:   Prompt{URL: "https://as.test/d", CompleteURL: "https://as.test/d?c=A", UserCode: "A"}, interval: 5 * time.Second},
		{name: "escape sequences", status: 200,
			answer: `{"device_code":"dddddddddddddddd","user_code":"A\u001b[2J\nB","expires_in":1800,"interval":7,"verification_uri":"https://as.test/\u001bd","verification_uri_complete":"javascript:alert(1)"}`,
			want:   Prompt{URL: "https://as.test/d", UserCode: "A[2J B"}, interval: 7 * time.Second},
		{name: "no code", status: 200, answer: `{"user_code":"A","verification_uri":"https://as.test/d"}`,
			kind: transport.ErrMisconfigured, says: "not a device authorization"},
		{name: "script", status: 200, answer: `{"device_code":"dddddddddddddddd","user_code":"A","verification_uri":"javascript:alert(1)"}`,
			kind: transport.ErrMisconfigured, says: "not a device authorization"},
		{name: "not allowed", status: 400, answer: `{"error":"unauthorized_client","error_description":"not for you"}`,
			kind: transport.ErrMisconfigured, says: "not for you"},
		{name: "not there", status: 404, answer: `{}`, kind: transport.ErrMisconfigured, says: "HTTP 404"},
		{name: "down", status: 503, answer: `{}`, kind: transport.ErrAmbiguous, says: "HTTP 503"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			inBubble(t, oauthtest.Config{}, func(t *testing.T, w *deviceWorld) {
				w.srv.Fault("/device_authorization", 1, oauthtest.Answer(tt.status, json, tt.answer))
				f, err := newFlow(t.Context(), w.cfg)
				if err != nil {
					t.Fatal(err)
				}
				d, err := f.authorizeDevice(t.Context())
				if tt.kind != "" {
					w.wantError(err, tt.kind, tt.says)
					return
				}
				tt.want.Expiry = time.Now().Add(30 * time.Minute)
				if err != nil || d.Prompt != tt.want || d.interval != tt.interval {
					t.Errorf("got %+v, %v\nwant %+v", d, err, tt.want)
				}
			})
		})
	}
}

func TestDeviceAsksForScopesAndResources(t *testing.T) {
	inBubble(t, oauthtest.Config{}, func(t *testing.T, w *deviceWorld) {
		w.cfg.Endpoint.Params = url.Values{"resource": {"https://a.test/", "https://b.test/"}}
		w.cfg.AuthParams = url.Values{"acr_values": {"mfa"}}
		var asked url.Values
		base := w.cfg.Endpoint.Base
		w.cfg.Endpoint.Base = roundTripper(func(r *http.Request) (*http.Response, error) {
			if r.URL.Path == "/device_authorization" {
				r.ParseForm()
				asked = r.PostForm
				return nil, http.ErrServerClosed
			}
			return base.RoundTrip(r)
		})
		Device(t.Context(), w.cfg)
		if asked.Get("scope") != "api" || len(asked["resource"]) != 2 || asked.Get("acr_values") != "mfa" || asked.Get("client_id") != w.srv.ClientID() {
			t.Errorf("asked for %v", asked)
		}
	})
}
