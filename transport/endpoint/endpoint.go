package endpoint

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"sync/atomic"
	"time"

	"golang.org/x/oauth2"

	"github.com/stayauth/stayauth/tokencache"
	"github.com/stayauth/stayauth/transport"
	"github.com/stayauth/stayauth/transport/internal/dpop"
	"github.com/stayauth/stayauth/transport/internal/helper"
)

// An Endpoint is a client of one token endpoint (RFC 6749 section 3.2). It presents a refresh
// token or a code once per call: it follows no redirects and tries no second way to
// authenticate.
//
// The fields must not be changed after the first use. An Endpoint is safe for
// concurrent use, and printing one does not show ClientSecret.
type Endpoint struct {
	// Issuer names the provider in the key of the cache. Default: TokenURL.
	Issuer string

	// TokenURL is the token endpoint: https, or http on a loopback address, without a
	// fragment. A query is sent as it is (RFC 6749 section 3.2). Required.
	TokenURL string

	// RevocationURL is the endpoint where Revoke ends a login (RFC 7009). Default: none.
	RevocationURL string

	// LogoutURL is where Revoke posts a refresh token to end its session and no other.
	// Keycloak has one; its RevocationURL ends all sessions of the user with this client,
	// on other devices too. Default: none.
	LogoutURL string

	// ClientID identifies the program at the provider. Required.
	ClientID string

	// ClientSecret is the program's password, if it has one. Without one the client is
	// public, unless ClientAuth or ClientCertificate is set.
	ClientSecret tokencache.Secret

	// AuthStyle says how ClientSecret is sent: oauth2.AuthStyleInHeader, which is
	// HTTP Basic and what RFC 6749 section 2.3.1 recommends, or
	// oauth2.AuthStyleInParams. Required with ClientSecret; there is no default,
	// because guessing would cost a refresh token.
	AuthStyle oauth2.AuthStyle

	// ClientAuth proves who the program is in another way than by a secret: by a private key
	// or by a token of its platform, see package clientauth. Default: ClientSecret.
	ClientAuth ClientAuth

	// ClientCertificate says that Base presents a TLS certificate of the client (RFC 8705), as
	// that of clientauth.WithCertificate does. Requests go to the MTLSAliases then. The
	// certificate authenticates a client that has neither ClientSecret nor ClientAuth
	// (tls_client_auth, self_signed_tls_client_auth), and the provider may bind tokens to it:
	// then transport.Config needs the same Base. Refresh tokens of a public client are bound
	// as well (section 4), and Keycloak binds those of all: such a login ends with its
	// certificate.
	ClientCertificate bool

	// MTLSAliases are where clients with a certificate reach the endpoints of the provider,
	// by the addresses that they have for others (RFC 8705 section 5): that of TokenURL is
	// MTLSAliases[TokenURL]. They change neither the name of a login in the cache nor
	// TokenURL, to which it is bound. Default: the same addresses.
	MTLSAliases map[string]string

	// AuthMethods are the ways of client authentication that the provider's metadata lists
	// (RFC 8414 section 2). If that of the client is not among them, nothing is sent. It is
	// the Method of ClientAuth, or that of a certificate. Default: any.
	AuthMethods []string

	// AuthAlgorithms are those that the metadata lists for signatures of clients, such as
	// "ES256" (RFC 8414 section 2). If that of the key of ClientAuth is not among them,
	// nothing is sent. Default: any.
	AuthAlgorithms []string

	// DPoP binds logins to a key (RFC 9449). Default: tokens are bearer tokens.
	DPoP *DPoP

	// DPoPAlgorithms are the ways to sign such proofs that the provider's metadata lists
	// (RFC 9449 section 5.1). If that of a key is not among them, nothing is sent. Default:
	// any.
	DPoPAlgorithms []string

	// Scopes are requested by ClientCredentials, and by the ways to log in. A refresh names
	// no scope, which means the scope that was granted. Default: the provider's choice.
	Scopes []string

	// Params are further parameters of every token request, such as "audience" or
	// "resource", of which there may be several, each an absolute URI without a fragment
	// (RFC 8707 section 2). What a token is for is part of its name in the cache: Sources
	// whose Endpoints ask for different ones share no entry, see For. A "claims" parameter (OpenID
	// Connect Core section 5.5) is merged with the claims that an API demands, see
	// [transport.Source.Reject]. Params must not hold secrets, because they are printed.
	// Default: none.
	Params url.Values

	// AuthParams are the parameters of the authorization request that logins come from, as
	// copied by Provider.Endpoint. They are not sent to TokenURL, but "audience" and
	// "resource" are part of the name in the cache, like those of Params. Default: none.
	AuthParams url.Values

	// RepeatRedirectURI makes a refresh repeat the redirect_uri of the login, as GitLab
	// demands. Exchange keeps it in Record.Extra. Default: a refresh sends none (RFC 6749
	// section 6).
	RepeatRedirectURI bool

	// ExchangeGrant is for providers without refresh tokens: the grant type with which an
	// access token is exchanged for its successor while it is still good, such as
	// Facebook's "fb_exchange_token". The access token is sent in a parameter of that name,
	// and is also the RefreshToken of the record. Default: refresh tokens.
	ExchangeGrant string

	// IdleTime is how long a login lives at this provider that is not refreshed, and
	// Lifetime how long any login lives, whatever is done. They decide how often
	// transport.Pool.KeepFresh renews the logins that nobody uses, and when a user is asked
	// to log in again before the end (transport.EventEnding). Default: not known.
	IdleTime, Lifetime time.Duration

	// Codes gives the meaning of errors of this provider that this package does not know,
	// or understands differently: ErrLoginRequired, ErrMisconfigured, ErrUnavailable or
	// ErrAmbiguous. A key is an error code, or a phrase that occurs in descriptions, in
	// upper or lower case; if there are several phrases, the longest counts. Default: none.
	// This package knows the codes of RFC 6749, and what some providers send instead to
	// refuse a refresh token, among them Fitbit, GitHub, OpenAI, Slack and Twitch.
	Codes map[string]transport.Kind

	// Base sends the requests, and may turn answers that this package does not understand
	// into answers of RFC 6749 section 5. Default: http.DefaultTransport. If it does not
	// report to net/http/httptrace, as http.Transport does, then every failure to get an
	// answer counts as ErrAmbiguous.
	Base http.RoundTripper

	// Timeout bounds the wait for one answer, from the name lookup to its last byte. A late
	// answer may still come, and a refresh token that is presented again before that is
	// taken for stolen. Default: 5 minutes for token requests, of which callers wait 15
	// seconds, see the package documentation; the wait is longer while the provider answers
	// nothing at all, and a dead connection is noticed within 15 to 20 s if the operating
	// system detects it. 15 s for all other requests, and for getting a request sent.
	Timeout time.Duration

	bound  *dpop.Key    // see Bind
	common atomic.Value // of *shared
}

// shared is what all users of an Endpoint have in common.
type shared struct {
	gate     transport.Gate
	question question
	clock    providerClock
	helper   helper.Calls
	servers  dpop.Servers
}

func (e *Endpoint) shared() *shared {
	s, ok := e.common.Load().(*shared)
	if !ok {
		e.common.CompareAndSwap(nil, new(shared))
		s = e.common.Load().(*shared)
	}
	return s
}

func (e *Endpoint) prover() prover {
	return prover{e.DPoP, e.DPoPAlgorithms, e.bound, &e.shared().servers}
}

// Check reports, without any I/O, whether current can be refreshed here. Errors are
// ErrMisconfigured if a field is wrong or if current came from another token endpoint, because
// this one must never see its refresh token, and ErrLoginRequired if there is no refresh token.
func (e *Endpoint) Check(current *tokencache.Record) error {
	if err := e.check(); err != nil {
		return err
	}
	if current == nil {
		current = new(tokencache.Record)
	}
	if err := e.checkOrigin(current); err != nil {
		return err
	}
	if err := checkClaims(e.Params, current); err != nil {
		return err
	}
	if err := e.prover().check(current); err != nil {
		return err
	}
	if e.spends(current) == "" {
		return &transport.Error{Kind: transport.ErrLoginRequired, Op: "refresh", Remedy: "log in first: there is no refresh token"}
	}
	return nil
}

// Refresh spends the refresh token of current (RFC 6749 section 6), and asks for the claims
// that an API has demanded, if current has them. It makes one request, presents the token once,
// and returns what the provider answered: an empty RefreshToken or Scope means that the old one
// stays, and a zero time that the answer had none. All errors are *Error.
func (e *Endpoint) Refresh(ctx context.Context, current *tokencache.Record) (*tokencache.Record, error) {
	if err := e.Check(current); err != nil {
		return nil, err
	}
	return e.refresh(ctx, current, e.refreshForm(current))
}

func (e *Endpoint) refresh(ctx context.Context, current *tokencache.Record, form url.Values) (*tokencache.Record, error) {
	key, err := e.prover().keyOf(ctx, "refresh", current)
	if err != nil {
		return nil, err
	}
	rec, err := e.obtain(ctx, "refresh", form, key)
	if err == nil {
		rec, err = ofSomebodyElse(current, rec)
	}
	e.replaceRefreshToken(rec)
	return rec, err
}

// Exchange turns an authorization code into tokens (RFC 6749 section 4.1.3). verifier is the
// code verifier of RFC 7636, or empty; redirectURI must be that of the authorization request.
// The record that it returns is a new login. With ExchangeGrant, Exchange also exchanges the
// new token at once, because that may live for only an hour.
func (e *Endpoint) Exchange(ctx context.Context, code, verifier, redirectURI string) (*tokencache.Record, error) {
	if err := e.check(); err != nil {
		return nil, err
	}
	key, err := e.prover().newKey(ctx, "exchange")
	if err != nil {
		return nil, err
	}
	form := e.form("authorization_code")
	set(form, "code", code)
	set(form, "code_verifier", verifier)
	set(form, "redirect_uri", redirectURI)
	rec, err := e.obtain(ctx, "exchange", form, key)
	if err != nil {
		return nil, err
	}
	rec.AuthorizedAt = rec.ObtainedAt
	if rec.Scope == "" {
		rec.Scope = strings.Join(e.Scopes, " ")
	}
	e.keepRedirectURI(rec, redirectURI)
	e.replaceRefreshToken(rec)
	return e.prolong(ctx, rec), nil
}

// Format prints which endpoint and client this is, whatever the verb, and no query. Without it,
// a wrong verb for a struct that points to an Endpoint would print ClientSecret, because fmt
// does not call the methods of a Secret when it reports a bad verb.
func (e Endpoint) Format(f fmt.State, _ rune) {
	address, _, _ := strings.Cut(e.TokenURL, "?")
	fmt.Fprintf(f, "Endpoint{TokenURL: %q, ClientID: %q}", address, e.ClientID)
}

// wallNow returns the time without its monotonic clock reading: what is stored is compared
// by other processes, and after a sleep of the machine.
func wallNow() time.Time { return time.Now().Round(0) }
