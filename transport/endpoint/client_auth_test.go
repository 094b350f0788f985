package endpoint

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/oauth2"

	"github.com/stayauth/stayauth/tokencache"
	"github.com/stayauth/stayauth/transport"
	"github.com/stayauth/stayauth/transport/internal/helper"
	"github.com/stayauth/stayauth/transport/internal/testkit"
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
		if !errors.Is(err, transport.ErrMisconfigured) || !strings.Contains(err.Error(), "ClientAuth") || strings.Contains(err.Error(), "ClientSecret") || strings.Contains(err.Error(), "form-secret") {
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
		{"a lie that would make the proof good for a century", 100 * 365 * 24 * time.Hour, 0, ""},
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

// helpers are the two ways in which a program takes part in a request.
func helpers(r *recorder, f func(context.Context) error) map[string]transport.Refresher {
	e := func() *Endpoint {
		return &Endpoint{TokenURL: "https://login.example.com/token", ClientID: "client", Base: r}
	}
	proven := e()
	proven.ClientAuth = proofFunc(f)
	return map[string]transport.Refresher{
		"ClientAuth": proven,
		"GrantRefresher": e().GrantRefresher("urn:example:grant", nil, func(ctx context.Context, _ GrantRequest) (url.Values, error) {
			return nil, f(ctx)
		}),
	}
}

type proofFunc func(context.Context) error

func (proofFunc) Method() string { return "private_key_jwt" }

func (f proofFunc) Authenticate(ctx context.Context, _ *AuthRequest) error { return f(ctx) }

// A key service whose client panics ends nothing but the attempt, and one that hangs, whatever
// its context says, holds nobody up for long and keeps few goroutines (C83).
func TestHelpersThatPanicOrHang(t *testing.T) {
	for name := range helpers(nil, nil) {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				up := make(chan struct{})
				var hang bool
				var calls atomic.Int32
				r := &recorder{status: 503, answer: "{}"}
				refresher := helpers(r, func(context.Context) error {
					calls.Add(1)
					if hang {
						<-up
						return nil
					}
					panic("secret")
				})[name]
				refresh := func() error {
					_, err := refresher.Refresh(t.Context(), testRecord())
					return err
				}
				if err := refresh(); !errors.Is(err, transport.ErrUnavailable) || !strings.Contains(err.Error(), "panicked") || strings.Contains(err.Error(), "secret") {
					t.Errorf("got %v", err)
				}
				hang = true
				for range 2 * helper.MaxHanging {
					begun := time.Now()
					if err := refresh(); !errors.Is(err, transport.ErrUnavailable) || time.Since(begun) > helper.Timeout {
						t.Errorf("after %v: %v", time.Since(begun), err)
					}
				}
				if n := calls.Load(); n != 1+helper.MaxHanging {
					t.Errorf("%d calls", n)
				}
				if len(r.forms) != 0 {
					t.Error("something was sent")
				}
				close(up)
				synctest.Wait()
				if refresh(); len(r.forms) != 1 {
					t.Error("nothing is sent though the key service is back")
				}
			})
		})
	}
}

// A key service that is back is asked again in half a minute or, after a long outage, in ten, though
// the calls that it has never answered hang for ever (C83).
func TestHelpersThatHangForEver(t *testing.T) {
	for _, outage := range []time.Duration{5 * time.Minute, 24 * time.Hour} {
		synctest.Test(t, func(t *testing.T) {
			r := &recorder{status: 503, answer: "{}"}
			end, back := make(chan struct{}), time.Now().Add(outage)
			defer close(end)
			var calls atomic.Int32
			refresher := helpers(r, func(context.Context) error {
				if calls.Add(1); time.Now().Before(back) {
					<-end
				}
				return nil
			})["ClientAuth"]
			for time.Now().Before(back) {
				refresher.Refresh(t.Context(), testRecord())
				time.Sleep(time.Second)
			}
			if n, most := int(calls.Load()), 6*helper.MaxHanging+int(outage/(10*time.Minute)); n > most {
				t.Errorf("%d calls hang after %v, want no more than %d", n, outage, most)
			}
			for len(r.forms) == 0 && time.Since(back) < time.Hour {
				refresher.Refresh(t.Context(), testRecord())
				time.Sleep(time.Second)
			}
			if took := time.Since(back); took > min(outage/10, helper.LongestPause)+helper.Timeout {
				t.Errorf("after %v it is asked again %v too late", outage, took)
			}
			for range 3 * helper.MaxHanging {
				refresher.Refresh(t.Context(), testRecord())
			}
			if n := len(r.forms); n != 1+3*helper.MaxHanging {
				t.Errorf("%d requests were sent", n)
			}
		})
	}
}

// Whoever gives up early, as a user who closes a page does, takes nothing from the others.
func TestHelpersThatNobodyWaitsFor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := &recorder{status: 503, answer: "{}"}
		refresher := helpers(r, func(context.Context) error { time.Sleep(time.Second); return nil })["ClientAuth"]
		for range 2 * helper.MaxHanging {
			ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
			refresher.Refresh(ctx, testRecord())
			cancel()
		}
		if refresher.Refresh(t.Context(), testRecord()); len(r.forms) != 1 {
			t.Error("nothing was sent")
		}
	})
}

// What fails on the way to a token of another provider is said without what was sent there, and
// is nobody's login to make again at this one.
func TestErrorsOfHelpersShowNoSecret(t *testing.T) {
	for name, cause := range map[string]error{
		"refused": &oauth2.RetrieveError{Response: &http.Response{StatusCode: 400}, ErrorCode: "invalid_grant", ErrorDescription: "secret",
			Body: []byte(`{"error":"invalid_grant","error_description":"secret"}`)},
		"not understood": &oauth2.RetrieveError{Response: &http.Response{StatusCode: 200}, Body: []byte("access_token=secret")},
		"not reached":    &url.Error{Op: "Get", URL: "https://login.example.com/?token=secret", Err: errors.New("secret")},
	} {
		for _, wrapped := range []error{cause, fmt.Errorf("secret: %w", cause),
			&transport.Error{Kind: transport.ErrUnavailable, Err: cause}, &transport.Error{Kind: transport.ErrUnavailable, Err: fmt.Errorf("secret: %w", cause)}} {
			r := &recorder{status: 503, answer: "{}"}
			for way, refresher := range helpers(r, func(context.Context) error { return wrapped }) {
				_, err := refresher.Refresh(t.Context(), testRecord())
				if len(r.forms) != 0 || errors.Is(err, transport.ErrLoginRequired) || strings.Contains(fmt.Sprintf("%v %+v", err, err), "secret") {
					t.Errorf("%s, %s: %v", name, way, err)
				}
				if _, ok := errors.AsType[*oauth2.RetrieveError](err); ok {
					t.Errorf("%s, %s: the error holds a request", name, way)
				}
			}
		}
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

// A proof that waited in the queue of a provider may have expired there, and one that a proxy has
// sent twice was refused the second time: a new one is made soon, instead of after the minutes
// that pass before what is set up wrong is tried again (C79).
func TestProofThatWasGood(t *testing.T) {
	const keycloak = `{"error":"invalid_client","error_description":"Token reuse detected"}`
	const certified = `{"error":"invalid_client","error_description":"client authentication failed"}`
	const grant = `{"error":"invalid_grant","error_description":"the assertion was used before"}`
	for _, tt := range []struct {
		name   string
		stated bool
		status int
		answer string
		took   time.Duration
		kind   transport.Kind
		retry  time.Duration
	}{
		{"refused at once", false, 401, certified, time.Second, transport.ErrMisconfigured, 0},
		{"refused late", false, 401, certified, 40 * time.Second, transport.ErrUnavailable, time.Second},
		{"grant refused at once", true, 400, `{"error":"invalid_grant"}`, time.Second, transport.ErrMisconfigured, 0},
		{"grant refused late", true, 400, `{"error":"invalid_grant"}`, 40 * time.Second, transport.ErrUnavailable, time.Second},
		{"sent twice", false, 400, keycloak, time.Second, transport.ErrAmbiguous, 0},
		{"grant sent twice", true, 400, grant, time.Second, transport.ErrAmbiguous, 0},
		{"refresh token used", false, 400, `{"error":"invalid_grant","error_description":"Token reuse detected"}`, 40 * time.Second, transport.ErrLoginRequired, 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := &recorder{status: tt.status, answer: tt.answer}
				slow := testkit.RoundTripFunc(func(req *http.Request) (*http.Response, error) {
					if req.Method == http.MethodHead { // while it works
						return &http.Response{StatusCode: http.StatusOK, Body: http.NoBody, Request: req}, nil
					}
					time.Sleep(tt.took)
					return r.RoundTrip(req)
				})
				e := &Endpoint{TokenURL: "https://login.example.com/token", ClientID: "client", ClientAuth: proof{new([]AuthRequest), nil}, Base: slow}
				refresher := transport.Refresher(e)
				if tt.stated {
					refresher = e.GrantRefresher("urn:ietf:params:oauth:grant-type:jwt-bearer", nil, func(context.Context, GrantRequest) (url.Values, error) {
						return url.Values{"assertion": {"form-secret-of-some-length"}}, nil
					})
				}
				_, err := refresher.Refresh(t.Context(), testRecord())
				if told, ok := errors.AsType[*transport.Error](err); !ok || told.Kind != tt.kind || told.RetryAfter != tt.retry {
					t.Errorf("got %v", err)
				}
			})
		})
	}
}

// No way to print a request shows what it spends, not even the error of a ClientAuth that names it.
func TestAuthRequestIsNotPrinted(t *testing.T) {
	form := url.Values{"refresh_token": {"rt-SECRET"}, "client_assertion": {"assertion-SECRET"}}
	r := AuthRequest{ClientID: "client", URL: "https://login.example.com/token?key=query-SECRET", Form: form,
		Header: http.Header{"Authorization": {"Basic header-SECRET"}}}
	values := []any{r, &r, []AuthRequest{r}, struct{ R *AuthRequest }{&r}}
	for _, v := range values[:3] {
		for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%d", "%x"} {
			if text := fmt.Sprintf(verb, v); strings.Contains(text, "SECRET") || !strings.Contains(text, "client") {
				t.Errorf("%s of %T: %s", verb, v, text)
			}
		}
	}
	for _, v := range values {
		text, err := json.Marshal(v)
		var log bytes.Buffer
		slog.New(slog.NewJSONHandler(&log, nil)).Info("value", "v", v)
		if err != nil || strings.Contains(string(text)+log.String(), "SECRET") {
			t.Errorf("JSON of %T: %v, %s, %s", v, err, text, log.String())
		}
	}

	e := &Endpoint{TokenURL: "https://login.example.com/token", ClientID: "client", ClientAuth: chatty{}}
	_, err := e.Refresh(t.Context(), &tokencache.Record{RefreshToken: "rt-SECRET", TokenURL: e.TokenURL})
	if err == nil || !strings.Contains(err.Error(), "AuthRequest") || strings.Contains(err.Error(), "SECRET") {
		t.Errorf("got %v", err)
	}
}

// A chatty ClientAuth says what it was asked.
type chatty struct{}

func (chatty) Method() string { return "private_key_jwt" }

func (chatty) Authenticate(_ context.Context, r *AuthRequest) error {
	return fmt.Errorf("there is no proof for %+v", r)
}

// A proof in a header is shown as little as one in the form, when the provider repeats it.
func TestProofInAHeaderIsNotShown(t *testing.T) {
	e := &Endpoint{TokenURL: "https://login.example.com/token", ClientID: "client", ClientAuth: inHeader{},
		Base: testkit.RoundTripFunc(func(req *http.Request) (*http.Response, error) {
			said, err := json.Marshal(map[string]string{"error": "invalid_client", "error_description": "refused: " + req.Header.Get("Authorization") + req.Header.Get("Proof")})
			if err != nil {
				return nil, err
			}
			return testkit.Respond(http.StatusUnauthorized, string(said)).RoundTrip(req)
		})}
	_, err := e.ClientCredentials().Refresh(t.Context(), nil)
	if err == nil || !strings.Contains(err.Error(), "invalid_client") || strings.Contains(err.Error(), "SECRET") {
		t.Errorf("got %v", err)
	}
}

// An inHeader proof is in no parameter.
type inHeader struct{}

func (inHeader) Method() string { return "private_key_jwt" }

func (inHeader) Authenticate(_ context.Context, r *AuthRequest) error {
	r.Header.Set("Authorization", "Signed SECRET-of-authorization")
	r.Header.Set("Proof", "SECRET-of-another-header")
	return nil
}
