package endpoint

import (
	"net/url"
	"strings"

	"github.com/stayauth/stayauth/tokencache"
	"github.com/stayauth/stayauth/transport/internal/claims"
)

// ownedParam returns what to do instead of setting a parameter that Endpoint sets itself, or
// that would authenticate the client a second time (RFC 6749 section 2.3).
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

func set(form url.Values, name, value string) {
	if value != "" {
		form.Set(name, value)
	}
}

// demand adds to a token request the claims that an API demands of the token, together with
// those that Params always ask for. checkClaims has made sure that they do not contradict each
// other.
func demand(form url.Values, current *tokencache.Record) {
	if current != nil && current.Claims != "" {
		all, _ := claims.Merge(form.Get("claims"), current.Claims)
		set(form, "claims", all)
	}
}

// checkClaims returns an error if what an API demands contradicts what Params always ask for.
func checkClaims(params url.Values, current *tokencache.Record) error {
	demanded := ""
	if current != nil {
		demanded = current.Claims
	}
	if _, err := claims.Merge(params.Get("claims"), demanded); err != nil {
		e := endpointError("Params", "change the parameter claims, so that it is a JSON object and goes together with what an API demands, or remove it")
		e.Err = err
		return e
	}
	return nil
}
