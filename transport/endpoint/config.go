package endpoint

import (
	"cmp"
	"fmt"
	"net/http"
	"slices"
	"strings"

	"github.com/stayauth/stayauth/tokencache"
	"github.com/stayauth/stayauth/transport"
	"github.com/stayauth/stayauth/transport/internal/loopback"
	"github.com/stayauth/stayauth/transport/internal/mutualtls"
	"github.com/stayauth/stayauth/transport/internal/text"
	"golang.org/x/oauth2"
)

// check says which field is wrong, and what to do about it.
func (e *Endpoint) check() error {
	if remedy := loopback.Problem(e.TokenURL); remedy != "" {
		return endpointError("TokenURL", remedy)
	}
	if remedy := loopback.Problem(e.RevocationURL); e.RevocationURL != "" && remedy != "" {
		return endpointError("RevocationURL", remedy)
	}
	if remedy := loopback.Problem(e.LogoutURL); e.LogoutURL != "" && remedy != "" {
		return endpointError("LogoutURL", remedy)
	}
	if e.ClientID == "" {
		return endpointError("ClientID", "set it to the identifier the provider gave to this program")
	}
	if err := e.checkAuth(); err != nil {
		return err
	}
	if err := e.checkCertificate(); err != nil {
		return err
	}
	for name := range e.Params {
		if remedy := ownedParam(name); remedy != "" {
			return endpointError("Params", remedy)
		}
	}
	if remedy := checkResources(e.Params); remedy != "" {
		return endpointError("Params", remedy)
	}
	if remedy := checkResources(e.AuthParams); remedy != "" {
		return endpointError("AuthParams", remedy)
	}
	if ownedParam(e.ExchangeGrant) != "" {
		return endpointError("ExchangeGrant", "leave it empty unless the provider has no refresh tokens")
	}
	for code, kind := range e.Codes {
		switch kind {
		case transport.ErrLoginRequired, transport.ErrMisconfigured, transport.ErrUnavailable, transport.ErrAmbiguous:
		default:
			return endpointError("Codes", "use ErrLoginRequired, ErrMisconfigured, ErrUnavailable or ErrAmbiguous")
		}
		if code == "" {
			return endpointError("Codes", "remove the empty code: it would stand for any error")
		}
	}
	if e.IdleTime < 0 || e.Lifetime < 0 {
		return endpointError("IdleTime, Lifetime", "use positive durations, or 0 if they are not known")
	}
	if e.Timeout < 0 {
		return endpointError("Timeout", "use a positive duration, or 0 for 15 s")
	}
	return nil
}

// checkOrigin keeps tokens from every endpoint but the one that issued them.
func (e *Endpoint) checkOrigin(rec *tokencache.Record) error {
	if rec.TokenURL != e.TokenURL && (rec.RefreshToken != "" || rec.AccessToken != "") {
		return endpointError("TokenURL",
			"the stored login belongs to another token endpoint; set TokenURL back to that one, or log in again")
	}
	return nil
}

// checkAuth says what is wrong with the fields that authenticate the client.
func (e *Endpoint) checkAuth() error {
	if e.ClientAuth != nil && e.ClientSecret != "" {
		return endpointError("ClientSecret", "remove it, or ClientAuth: a client authenticates in one way")
	}
	if e.ClientAuth != nil && !e.lists(e.ClientAuth.Method()) {
		return endpointError("ClientAuth", fmt.Sprintf("use another way of client authentication: the provider does not list %s, only %s",
			e.ClientAuth.Method(), text.Clean(strings.Join(e.AuthMethods, ", "))))
	}
	switch e.AuthStyle {
	case oauth2.AuthStyleInHeader, oauth2.AuthStyleInParams:
	case oauth2.AuthStyleAutoDetect:
		if e.ClientSecret != "" {
			return endpointError("AuthStyle",
				"set oauth2.AuthStyleInHeader or oauth2.AuthStyleInParams: trying both could spend a refresh token twice")
		}
	default:
		return endpointError("AuthStyle", "use oauth2.AuthStyleInHeader or oauth2.AuthStyleInParams")
	}
	return nil
}

// lists reports whether the provider's metadata lists one of these ways of client authentication.
func (e *Endpoint) lists(methods ...string) bool {
	return e.AuthMethods == nil || slices.ContainsFunc(methods, func(m string) bool { return slices.Contains(e.AuthMethods, m) })
}

// checkCertificate says what is wrong with the fields of a client that has a certificate.
func (e *Endpoint) checkCertificate() error {
	if !e.ClientCertificate {
		return nil
	}
	if e.byCertificate() && !e.lists("tls_client_auth", "self_signed_tls_client_auth", "none") { // A public client may have a certificate (RFC 8705 section 4).
		return endpointError("ClientCertificate", "use another way of client authentication: the provider lists none by a certificate, only "+text.Clean(strings.Join(e.AuthMethods, ", ")))
	}
	for usual, alias := range e.MTLSAliases {
		remedy := loopback.Problem(alias)
		if remedy == "" && hasTLS(usual) && !hasTLS(alias) {
			remedy = "use https, as the usual address does"
		}
		if remedy != "" {
			return endpointError("MTLSAliases", remedy)
		}
	}
	if t, ok := mutualtls.Of(e.base()); ok && !presents(t) {
		return endpointError("Base", "use one that presents the client's certificate: clientauth.WithCertificate returns it")
	}
	return nil
}

func hasTLS(address string) bool {
	return len(address) > len("https:") && strings.EqualFold(address[:len("https:")], "https:")
}

// presents reports whether t may have a certificate to present.
func presents(t *http.Transport) bool {
	t = t.Clone() // The first request may be changing TLSClientConfig.
	if t.DialTLSContext != nil {
		return true
	}
	c := t.TLSClientConfig
	return c != nil && (len(c.Certificates) > 0 || c.GetClientCertificate != nil)
}

// isPublic reports whether nothing tells the provider who the client is, but its ClientID.
func (e *Endpoint) isPublic() bool {
	return e.ClientAuth == nil && e.ClientSecret == "" && !e.ClientCertificate
}

// byCertificate reports whether nothing but a certificate does.
func (e *Endpoint) byCertificate() bool {
	return e.ClientCertificate && e.ClientAuth == nil && e.ClientSecret == ""
}

// address returns where this client reaches an endpoint of the provider (RFC 8705 section 5).
func (e *Endpoint) address(target string) string {
	if e.ClientCertificate {
		return cmp.Or(e.MTLSAliases[target], target)
	}
	return target
}
