package login

import (
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/stayauth/stayauth/transport"
)

// A cause is what an API or the provider demands of the next login.
type cause struct {
	scopes []string
	params url.Values
	maxAge time.Duration
}

// causeOf returns what err demands, and reports whether a login may help at all.
func causeOf(err error) (cause, bool) {
	c := cause{params: url.Values{}}
	if challenge, ok := errors.AsType[transport.Challenge](err); ok {
		if demanded := challenge.Claims(); demanded != "" {
			c.params.Set("claims", demanded)
		}
		switch challenge.Params["error"] {
		case "insufficient_scope": // RFC 6750 section 3.1
			c.scopes = strings.Fields(challenge.Params["scope"])
			return c, len(c.scopes) > 0
		case "insufficient_user_authentication": // RFC 9470 section 3
			if acr := challenge.Params["acr_values"]; acr != "" && len(acr) <= maxName {
				c.params.Set("acr_values", acr)
			}
			if age, err := strconv.ParseUint(challenge.Params["max_age"], 10, 31); err == nil {
				c.params.Set("max_age", strconv.FormatUint(age, 10))
				c.maxAge = time.Duration(age) * time.Second
			}
		}
		return c, len(c.params) > 0
	}
	if e, ok := errors.AsType[*transport.Error](err); ok && e.Kind == transport.ErrLoginRequired {
		if e.Claims != "" {
			c.params.Set("claims", e.Claims)
		}
		return c, true
	}
	return c, false
}

// fingerprint identifies a cause in a cookie without revealing it.
func (c cause) fingerprint(user, label string) string {
	h := sha256.New()
	for _, part := range append(slices.Sorted(slices.Values(c.scopes)), c.params.Encode(), user, label) {
		h.Write([]byte(strconv.Itoa(len(part)) + "\n" + part))
	}
	return base64.RawURLEncoding.EncodeToString(h.Sum(nil)[:16])
}

// loopTime is how soon after a login the same cause means that the login did not help: the
// browser is back at once, and would go round for ever.
const loopTime = time.Minute

// repeats reports whether a login has just satisfied the cause. Its cookie tells.
func (web *Web) repeats(r *http.Request, fingerprint string, c cause) bool {
	soon := loopTime
	if c.maxAge > 0 && c.maxAge < soon {
		soon = c.maxAge // After that it is a new demand.
	}
	return slices.ContainsFunc(web.cookies.all(r), func(a *attempt) bool {
		return a.Cause == fingerprint && a.Outcome != nil && a.Outcome.connected() && time.Since(time.Unix(a.End, 0).Add(-web.cfg.Timeout)) < soon
	})
}
