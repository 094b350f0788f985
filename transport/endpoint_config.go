package transport

import (
	"net/url"
	"strings"

	"golang.org/x/oauth2"

	"github.com/stayauth/stayauth/tokencache"
)

// protocolParams are the parameters that Params may not set, because Endpoint
// does, or because they would be a second way to authenticate the client.
var protocolParams = [...]string{
	"grant_type", "refresh_token", "code", "code_verifier", "scope", "token", "token_type_hint",
	"client_id", "client_secret", "client_assertion", "client_assertion_type",
}

// check says which field is wrong, and what to do about it.
func (e *Endpoint) check() error {
	if remedy := checkURL(e.TokenURL); remedy != "" {
		return endpointError("TokenURL", remedy)
	}
	if remedy := checkURL(e.RevocationURL); e.RevocationURL != "" && remedy != "" {
		return endpointError("RevocationURL", remedy)
	}
	if remedy := checkURL(e.LogoutURL); e.LogoutURL != "" && remedy != "" {
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
	for _, name := range protocolParams {
		if e.Params.Has(name) {
			return endpointError("Params", "remove "+name+": Endpoint sets it itself where it belongs")
		}
		if e.ExchangeGrant == name {
			return endpointError("ExchangeGrant", "leave it empty unless the provider has no refresh tokens")
		}
	}
	if e.Timeout < 0 {
		return endpointError("Timeout", "use a positive duration, or 0 for 15 s")
	}
	return nil
}

// checkOrigin keeps tokens from any endpoint but the one that issued them.
func (e *Endpoint) checkOrigin(rec *tokencache.Record) error {
	if rec != nil && rec.TokenURL != e.TokenURL {
		return endpointError("TokenURL",
			"the stored login belongs to another token endpoint; set TokenURL back to that one, or log in again")
	}
	return nil
}

func endpointError(field, remedy string) *Error {
	return &Error{Kind: ErrMisconfigured, Op: "config", Field: "Endpoint." + field, Remedy: remedy}
}

// checkURL returns what to do about a URL that secrets must not be sent to. It
// does not quote the URL, which may hold a password.
func checkURL(raw string) (remedy string) {
	u, err := url.Parse(raw)
	switch {
	case raw == "":
		return "set it: it is in the provider's documentation or metadata"
	case err != nil || u.Hostname() == "":
		return "use an absolute URL, such as https://login.example.com/token"
	case u.User != nil:
		return "remove the user information; use ClientID and ClientSecret"
	case strings.ContainsAny(raw, "?#"):
		return "remove query and fragment; use Params"
	case u.Scheme == "https", u.Scheme == "http" && isLoopback(u.Hostname()):
		return ""
	}
	return "use https; plain http is for loopback addresses only"
}
