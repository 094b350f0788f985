package endpoint

import (
	"net/url"

	"github.com/stayauth/stayauth/tokencache"
	"github.com/stayauth/stayauth/transport/internal/claims"
)

// demand adds to a token request the claims that an API demands of the token, together
// with those that Params always ask for. checkClaims has seen that they go together.
func demand(form url.Values, current *tokencache.Record) {
	if current != nil && current.Claims != "" {
		all, _ := claims.Merge(form.Get("claims"), current.Claims)
		set(form, "claims", all)
	}
}

// checkClaims says so if what an API demands contradicts what Params always ask for.
func (e *Endpoint) checkClaims(current *tokencache.Record) error {
	demanded := ""
	if current != nil {
		demanded = current.Claims
	}
	if _, err := claims.Merge(e.Params.Get("claims"), demanded); err != nil {
		e := endpointError("Params", "change the parameter claims, so that it is a JSON object and goes together with what an API demands, or remove it")
		e.Err = err
		return e
	}
	return nil
}
