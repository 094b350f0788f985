package oauthtest

import (
	"encoding/base64"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/stayauth/stayauth/transport/internal/claims"
)

// A consent is what a user has agreed to at the authorization endpoint, and how the user was
// authenticated for it.
type consent struct {
	account, scope, nonce string

	acr       string   // the first of acr_values
	claims    string   // the claims that were asked for
	resources []string // which, see Config.Resources; nil: all
}

// consentTo returns the consent that an authorization request gets, from nobody yet.
func consentTo(q url.Values) consent {
	acr, _, _ := strings.Cut(q.Get("acr_values"), " ")
	return consent{scope: q.Get("scope"), nonce: q.Get("nonce"), acr: acr, claims: q.Get("claims"), resources: q["resource"]}
}

func badClaims(request string) bool {
	_, err := claims.Merge(request, "")
	return err != nil
}

// demands are what the API wants of a token besides that it is good.
type demands struct {
	claims, scope, acr string
	maxAge             time.Duration
}

// DemandClaims makes the API reject tokens for which not all of these claims were asked for,
// with the token or at the login (a JSON object as in OpenID Connect Core section 5.5), with the
// challenge of Microsoft's continuous access evaluation. Empty: it demands none.
func (s *Server) DemandClaims(object string) { s.demand(func(d *demands) { d.claims = object }) }

// DemandScope makes the API reject tokens that do not have all of these scopes, with 403 and
// insufficient_scope (RFC 6750 section 3.1). Empty: it demands none.
func (s *Server) DemandScope(scope string) { s.demand(func(d *demands) { d.scope = scope }) }

// DemandAuthentication makes the API reject the tokens of a login at which the user was not
// authenticated in one of these ways, or which is older than maxAge, with 401 and
// insufficient_user_authentication (RFC 9470). The user of /authorize is authenticated at once,
// in the first way that acr_values name. Empty: any way will do; zero: at any time.
func (s *Server) DemandAuthentication(acrValues string, maxAge time.Duration) {
	s.demand(func(d *demands) { d.acr, d.maxAge = acrValues, maxAge })
}

func (s *Server) demand(change func(*demands)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	change(&s.demands)
}

// unmet returns what the API answers to a good token that is not what it demands: a status and
// the parameters of a challenge. The status is 0 if there is nothing to demand. s.mu is held.
func (s *Server) unmet(a *access) (status int, params string) {
	d, l := s.demands, a.login
	if !claims.Covers(a.claims, d.claims) {
		return http.StatusUnauthorized, `error="insufficient_claims", claims="` + base64.StdEncoding.EncodeToString([]byte(d.claims)) + `"`
	}
	if !covers(a.scope, d.scope) {
		return http.StatusForbidden, `error="insufficient_scope", scope="` + d.scope + `"`
	}
	known := d.acr == "" || slices.Contains(strings.Fields(d.acr), l.acr)
	if known && (d.maxAge == 0 || time.Since(l.since) <= d.maxAge) {
		return 0, ""
	}
	params = `error="insufficient_user_authentication"`
	if d.acr != "" {
		params += `, acr_values="` + d.acr + `"`
	}
	if d.maxAge > 0 {
		params += `, max_age=` + strconv.FormatInt(seconds(d.maxAge), 10)
	}
	return http.StatusUnauthorized, params
}
