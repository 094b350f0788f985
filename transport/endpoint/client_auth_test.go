package endpoint

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/oauth2"

	"github.com/stayauth/stayauth/transport"
)

// proof is a ClientAuth that says what it was asked.
type proof struct {
	asked *[]AuthRequest
	err   error
}

func (p proof) Method() string { return "private_key_jwt" }

func (p proof) Authenticate(_ context.Context, r *AuthRequest) error {
	*p.asked = append(*p.asked, *r)
	r.Header.Set("Authorization", "Proof header-secret")
	r.Form.Set("client_assertion", "form-secret-of-some-length")
	return p.err
}

// TestClientAuth: a proof is asked for once per request and sent with it, in place of a secret,
// and what failed to be proven is not sent.
func TestClientAuth(t *testing.T) {
	var asked []AuthRequest
	r := &recorder{status: 400, answer: `{"error":"invalid_client","error_description":"form-secret-of-some-length, Proof header-secret"}`}
	e := &Endpoint{Issuer: "https://login.example.com", TokenURL: "https://login.example.com/token", ClientID: "client", ClientAuth: proof{&asked, nil}, Base: r}
	for range 2 {
		_, err := e.Refresh(t.Context(), testRecord())
		if !errors.Is(err, transport.ErrMisconfigured) || strings.Contains(err.Error(), "form-secret") {
			t.Errorf("got %v", err)
		}
	}
	if len(asked) != 2 || asked[0].Issuer != "https://login.example.com" || asked[0].ClientID != "client" || asked[0].Form.Get("client_id") != "client" {
		t.Errorf("asked %+v", asked)
	}
	if len(r.forms) != 2 || r.forms[0].Get("client_assertion") == "" || r.heads[0].Header.Get("Authorization") != "Proof header-secret" || r.forms[0].Has("client_secret") {
		t.Errorf("sent %v", r.forms)
	}
	e.ClientAuth = proof{&asked, errors.New("no key")}
	if _, err := e.Refresh(t.Context(), testRecord()); !errors.Is(err, transport.ErrUnavailable) || len(r.forms) != 2 {
		t.Errorf("%d requests: %v", len(r.forms), err)
	}
	e.ClientAuth = proof{&asked, &transport.Error{Kind: transport.ErrMisconfigured, Field: "Key", Remedy: "set it"}}
	if _, err := e.Refresh(t.Context(), testRecord()); !errors.Is(err, transport.ErrMisconfigured) || !strings.Contains(err.Error(), "set it") || len(r.forms) != 2 {
		t.Errorf("%d requests: %v", len(r.forms), err)
	}
}

// A client authenticates in one way, and never in a weaker one than was asked for (C86).
func TestClientAuthThatDoesNotFit(t *testing.T) {
	auth := proof{new([]AuthRequest), nil}
	for _, tt := range []struct {
		name string
		e    *Endpoint
		says string
	}{
		{"two ways", &Endpoint{ClientAuth: auth, ClientSecret: "s", AuthStyle: oauth2.AuthStyleInHeader}, "one way"},
		{"not listed", &Endpoint{ClientAuth: auth, AuthMethods: []string{"client_secret_basic"}}, "only client_secret_basic"},
		{"nothing is listed", &Endpoint{ClientAuth: auth, AuthMethods: []string{}}, "does not list private_key_jwt"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			tt.e.TokenURL, tt.e.ClientID = "https://login.example.com/token", "client"
			if err := tt.e.Check(testRecord()); !errors.Is(err, transport.ErrMisconfigured) || !strings.Contains(err.Error(), tt.says) {
				t.Errorf("got %v", err)
			}
		})
	}
	listed := &Endpoint{TokenURL: "https://login.example.com/token", ClientID: "client", ClientAuth: auth, AuthMethods: []string{"none", "private_key_jwt"}}
	if err := listed.Check(testRecord()); err != nil {
		t.Error(err)
	}
}

// What a proof is dated by is the provider's clock: a machine whose clock is off can prove who
// it is from the second request on (C78).
func TestTimeOfTheProvider(t *testing.T) {
	for _, tt := range []struct {
		name        string
		ahead, want time.Duration
		age         string
	}{
		{"right", 0, 0, ""},
		{"the latency of a request", 2 * time.Second, 0, ""},
		{"behind", 10 * time.Minute, 10 * time.Minute, ""},
		{"ahead", -10 * time.Minute, -10 * time.Minute, ""},
		{"an answer of a cache", time.Hour, 0, "3600"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var asked []AuthRequest
				e := &Endpoint{TokenURL: "https://login.example.com/token", ClientID: "client", ClientAuth: proof{&asked, nil},
					Base: dated{&recorder{status: 503, answer: "{}"}, tt.ahead, tt.age}}
				for range 2 {
					e.Refresh(t.Context(), testRecord())
				}
				if got := time.Until(asked[1].Now); (got - tt.want).Abs() > time.Second {
					t.Errorf("off by %v, want %v", got, tt.want)
				}
			})
		})
	}
}

// dated is a provider with a clock of its own.
type dated struct {
	http.RoundTripper
	ahead time.Duration
	age   string
}

func (d dated) RoundTrip(req *http.Request) (*http.Response, error) {
	resp, err := d.RoundTripper.RoundTrip(req)
	if err == nil {
		if resp.Header == nil {
			resp.Header = http.Header{}
		}
		resp.Header.Set("Date", time.Now().Add(d.ahead).UTC().Format(http.TimeFormat))
		if d.age != "" {
			resp.Header.Set("Age", d.age)
		}
	}
	return resp, err
}
