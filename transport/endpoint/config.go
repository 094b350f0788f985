package endpoint

import (
	"net/url"
	"strings"

	"golang.org/x/oauth2"

	"github.com/stayauth/stayauth/tokencache"
	"github.com/stayauth/stayauth/transport"
	"github.com/stayauth/stayauth/transport/internal/loopback"
)

// ownedParam returns what to do instead of setting a parameter that Endpoint sets, or
// that would be a second way to authenticate the client (RFC 6749 section 2.3).
func ownedParam(name string) (remedy string) {
	switch name {
	case "client_id":
		return "remove client_id: use ClientID"
	case "client_secret":
		return "remove client_secret: use ClientSecret and AuthStyle"
	case "client_assertion", "client_assertion_type":
		return "remove " + name + ": an assertion is good for one request, and a client authenticates in one way"
	case "scope":
		return "remove scope: use Scopes"
	case "grant_type", "refresh_token", "code", "code_verifier", "token", "token_type_hint":
		return "remove " + name + ": Endpoint sets it itself where it belongs"
	}
	return ""
}

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
	if e.Timeout < 0 {
		return endpointError("Timeout", "use a positive duration, or 0 for 15 s")
	}
	return nil
}

// checkOrigin keeps tokens from any endpoint but the one that issued them.
func (e *Endpoint) checkOrigin(rec *tokencache.Record) error {
	if rec.TokenURL != e.TokenURL && (rec.RefreshToken != "" || rec.AccessToken != "") {
		return endpointError("TokenURL",
			"the stored login belongs to another token endpoint; set TokenURL back to that one, or log in again")
	}
	return nil
}

func endpointError(field, remedy string) *transport.Error {
	return &transport.Error{Kind: transport.ErrMisconfigured, Op: "config", Field: "Endpoint." + field, Remedy: remedy}
}

// checkResources returns what to do about a resource that is not an absolute URI
// without a fragment (RFC 8707 section 2).
func checkResources(params url.Values) (remedy string) {
	for _, r := range params["resource"] {
		if u, err := url.Parse(r); r != "" && (err != nil || !u.IsAbs() || strings.Contains(r, "#")) {
			return "use an absolute URL without a fragment as the resource, such as https://api.example.com"
		}
	}
	return ""
}
