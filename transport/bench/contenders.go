package bench

import (
	"context"
	"maps"
	"net/http"
	"time"

	"cloud.google.com/go/auth"
	"cloud.google.com/go/auth/httptransport"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/runtime"
	"golang.org/x/oauth2"

	"github.com/stayauth/stayauth/tokencache"
	"github.com/stayauth/stayauth/transport"
	"github.com/stayauth/stayauth/transport/endpoint"
)

const (
	apiOrigin   = "https://api.example.com"
	apiURL      = apiOrigin + "/v1/things"
	accessToken = "eyJhbGciOiJFUzI1NiJ9.benchmark-token-of-no-value"
)

// watch sees what arrives at a stub. Only a test sets it, because the Request of stayauth's
// response is the caller's, without the token.
var watch func(*http.Request)

// A stub is an API without a network. It takes a token for granted.
type stub struct{}

func (stub) RoundTrip(req *http.Request) (*http.Response, error) {
	if watch != nil {
		watch(req)
	}
	if req.Body != nil {
		req.Body.Close()
	}
	return &http.Response{StatusCode: http.StatusOK, Header: stubHeader, Body: http.NoBody, Request: req}, nil
}

// A transporter makes a RoundTripper a policy.Transporter.
type transporter struct{ http.RoundTripper }

func (t transporter) Do(req *http.Request) (*http.Response, error) { return t.RoundTrip(req) }

var stubHeader = http.Header{"Content-Type": {"application/json"}}

// A floor does the least that a RoundTripper must do to authorize a request.
type floor struct{ base http.RoundTripper }

var prebuilt = []string{"Bearer " + accessToken}

func (f floor) RoundTrip(req *http.Request) (*http.Response, error) {
	r := new(http.Request)
	*r = *req
	r.Header = maps.Clone(req.Header)
	r.Header["Authorization"] = prebuilt
	return f.base.RoundTrip(r)
}

// A contender authorizes the requests to an origin that go through base, with a token that is
// good for an hour.
type contender struct {
	name string
	make func(base http.RoundTripper, origin string) (http.RoundTripper, error)
}

var contenders = []contender{
	{"stub", func(base http.RoundTripper, _ string) (http.RoundTripper, error) { return base, nil }},
	{"floor", func(base http.RoundTripper, _ string) (http.RoundTripper, error) { return floor{base}, nil }},
	{"stayauth", newStayauth},
	{"oauth2", func(base http.RoundTripper, _ string) (http.RoundTripper, error) {
		tok := &oauth2.Token{AccessToken: accessToken, Expiry: time.Now().Add(time.Hour)}
		return &oauth2.Transport{Base: base, Source: oauth2.ReuseTokenSource(tok, nil)}, nil
	}},
	{"google", func(base http.RoundTripper, _ string) (http.RoundTripper, error) {
		provider := auth.NewCachedTokenProvider(googleToken{}, nil)
		client := &http.Client{Transport: base}
		err := httptransport.AddAuthorizationMiddleware(client, auth.NewCredentials(&auth.CredentialsOptions{TokenProvider: provider}))
		return client.Transport, err
	}},
	{"azcore", func(base http.RoundTripper, _ string) (http.RoundTripper, error) {
		bearer := runtime.NewBearerTokenPolicy(azureToken{}, []string{"api"}, nil)
		return pipeline{runtime.NewPipeline("bench", "v1", runtime.PipelineOptions{PerRetry: []policy.Policy{bearer}}, &policy.ClientOptions{
			Transport: transporter{base}, Telemetry: policy.TelemetryOptions{Disabled: true}, Retry: policy.RetryOptions{MaxRetries: -1},
		})}, nil
	}},
}

func newStayauth(base http.RoundTripper, origin string) (http.RoundTripper, error) {
	cache, err := tokencache.New(new(tokencache.Memory), nil)
	if err != nil {
		return nil, err
	}
	source, err := transport.NewSource(transport.SourceConfig{
		Cache:     cache,
		Refresher: &endpoint.Endpoint{TokenURL: "https://auth.example.com/token", ClientID: "bench", AuthStyle: oauth2.AuthStyleInParams},
	})
	if err != nil {
		return nil, err
	}
	rec := &tokencache.Record{AccessToken: accessToken, RefreshToken: "unused", Expiry: time.Now().Add(time.Hour)}
	if err := source.Login(context.Background(), rec); err != nil {
		return nil, err
	}
	return transport.New(transport.Config{Source: source, Origins: []string{origin}, Base: base})
}

type googleToken struct{}

func (googleToken) Token(context.Context) (*auth.Token, error) {
	return &auth.Token{Value: accessToken, Type: "Bearer", Expiry: time.Now().Add(time.Hour)}, nil
}

type azureToken struct{}

func (azureToken) GetToken(context.Context, policy.TokenRequestOptions) (azcore.AccessToken, error) {
	return azcore.AccessToken{Token: accessToken, ExpiresOn: time.Now().Add(time.Hour)}, nil
}

// A pipeline makes azcore's pipeline a RoundTripper. The policy sets the header of the request
// that it is given, which the retry policy has cloned before.
type pipeline struct{ p runtime.Pipeline }

func (p pipeline) RoundTrip(req *http.Request) (*http.Response, error) {
	r, err := runtime.NewRequestFromRequest(req)
	if err != nil {
		return nil, err
	}
	return p.p.Do(r)
}
