package endpoint

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"time"

	"golang.org/x/oauth2"

	"github.com/stayauth/stayauth/tokencache"
	"github.com/stayauth/stayauth/transport/internal/helper"
)

// A ClientAuth tells the provider who the client is, other than by a secret (RFC 6749 section
// 2.3). It is asked once for each HTTP request, repetitions included, because a proof may be
// good for only one. Package clientauth has those that are in use. It must be safe for
// concurrent use.
type ClientAuth interface {
	// Method is the name of this way in the metadata of providers, such as
	// "private_key_jwt" (RFC 7591 section 2).
	Method() string

	// Authenticate adds the proof to the header and the form of r, which has not been sent.
	// While it fails, nothing is: a refresh token is not spent. ctx ends after 10 seconds.
	Authenticate(ctx context.Context, r *AuthRequest) error
}

// An AuthRequest is a request that a ClientAuth authenticates.
type AuthRequest struct {
	ClientID   string    // it is in Form already
	Issuer     string    // Endpoint.Issuer, or else the token endpoint: who the proof is for
	URL        string    // the endpoint that is asked
	Now        time.Time // the time by the provider's clock, as far as its last answer told it
	Algorithms []string  // Endpoint.AuthAlgorithms
	Header     http.Header
	Form       url.Values
}

// Format prints what the request is about, whatever the verb, and neither Header nor Form: they
// hold what it spends.
func (r AuthRequest) Format(f fmt.State, _ rune) {
	address, _, _ := strings.Cut(r.URL, "?")
	fmt.Fprintf(f, "AuthRequest{URL: %q, ClientID: %q}", address, r.ClientID)
}

// MarshalText returns the same; encoding/json uses it too, and so does a log in JSON.
func (r AuthRequest) MarshalText() ([]byte, error) { return fmt.Append(nil, r), nil }

// A clientAuth is how a client tells the provider who it is, in one way per request.
type clientAuth struct {
	id     string
	secret tokencache.Secret
	style  oauth2.AuthStyle
	proof  ClientAuth
	helper *helper.Calls
}

// authenticate adds what tells the provider who the client is.
func (a clientAuth) authenticate(ctx context.Context, op string, r *AuthRequest) error {
	if a.proof == nil && a.secret != "" && a.style == oauth2.AuthStyleInHeader { // Section 2.3.1: form-urlencoded first.
		basic := &http.Request{Header: r.Header}
		basic.SetBasicAuth(url.QueryEscape(a.id), url.QueryEscape(string(a.secret)))
		return nil
	}
	r.Form.Set("client_id", a.id)
	if a.proof == nil {
		set(r.Form, "client_secret", string(a.secret))
		return nil
	}
	prove := func(ctx context.Context) error { return a.proof.Authenticate(ctx, r) }
	if err := a.helper.Do(ctx, prove); err != nil { // After which nothing reads r.
		return notSent(op, "ClientAuth", err)
	}
	return nil
}
