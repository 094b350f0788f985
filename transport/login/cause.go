package login

import (
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"maps"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/stayauth/stayauth/tokencache"
	"github.com/stayauth/stayauth/transport"
	demands "github.com/stayauth/stayauth/transport/internal/claims"
	"github.com/stayauth/stayauth/transport/internal/renewal"
	"github.com/stayauth/stayauth/transport/internal/text"
)

// A cause is what an API or the provider demands of the next login.
type cause struct {
	scopes []string
	params url.Values
	maxAge time.Duration
}

// causeOf returns what err demands, and reports whether a login may help at all. What is longer
// than anybody needs is not asked for: an API says it, and the user's browser has to carry it.
func causeOf(err error) (cause, bool) {
	c := cause{params: url.Values{}}
	demand := func(name, value string, limit int) {
		if value != "" && len(value) <= limit {
			c.params.Set(name, value)
		}
	}
	all := challengesIn(err)
	for _, challenge := range all { // The first that a login may satisfy counts.
		demand("claims", challenge.Claims(), demands.MaxLen)
		demand("acr_values", challenge.Params["acr_values"], maxName) // RFC 9470 section 3
		if age, err := strconv.ParseUint(challenge.Params["max_age"], 10, 31); err == nil {
			c.params.Set("max_age", strconv.FormatUint(age, 10))
			c.maxAge = time.Duration(age) * time.Second
		}
		// Other challenges name scopes too, but a login has them already (RFC 6750 section 3).
		scope := challenge.Params["scope"]
		if stepUp := c.params.Has("acr_values") || c.params.Has("max_age"); (stepUp || strings.EqualFold(challenge.Params["error"], "insufficient_scope")) && len(scope) <= demands.MaxLen {
			c.scopes = strings.Fields(scope)
		}
		if len(c.params)+len(c.scopes) > 0 {
			return c, true
		}
	}
	if len(all) > 0 {
		return c, false
	}
	if e, ok := errors.AsType[*transport.Error](err); ok && e.Kind == transport.ErrLoginRequired {
		demand("claims", e.Claims, demands.MaxLen)
		return c, true
	}
	return c, false
}

// challengesIn returns the challenges that err wraps.
func challengesIn(err error) (all []transport.Challenge) {
	switch e := err.(type) {
	case transport.Challenge:
		return []transport.Challenge{e}
	case interface{ Unwrap() error }:
		return challengesIn(e.Unwrap())
	case interface{ Unwrap() []error }:
		for _, one := range e.Unwrap() {
			all = append(all, challengesIn(one)...)
		}
	}
	return all
}

// fingerprint identifies a cause without revealing it. The cause of nobody in particular, which
// a Config has, has none of the further parts.
func (c cause) fingerprint(further ...string) string {
	h := sha256.New()
	for _, part := range append(slices.Sorted(slices.Values(c.scopes)), append([]string{c.params.Encode()}, further...)...) {
		h.Write([]byte(strconv.Itoa(len(part)) + "\n" + part))
	}
	return base64.RawURLEncoding.EncodeToString(h.Sum(nil)[:16])
}

// loopTime is how soon after a login the same cause means that the login did not help: the
// program is back at once, and would go round for ever.
const loopTime = time.Minute

// leastLoopTime is how soon that is at least: a provider that ignores max_age and knows the user is
// back in a second or two.
const leastLoopTime = 10 * time.Second

// soon returns how soon that is for c.
func (c cause) soon() time.Duration {
	if c.maxAge > 0 && c.maxAge < loopTime {
		return max(c.maxAge, leastLoopTime) // After that it is a new demand.
	}
	return loopTime
}

// besides returns what is to be requested in addition to the program's own parameters, of which
// later sets replace earlier ones. An API does not make the provider content with less than the
// program wants: with a login that is older, or was made in a way that is not good enough.
func (c cause) besides(field string, own ...url.Values) (url.Values, error) {
	wanted, params := url.Values{}, maps.Clone(c.params)
	for _, set := range own {
		maps.Copy(wanted, set)
	}
	age, err := strconv.ParseUint(wanted.Get("max_age"), 10, 31)
	if err == nil && time.Duration(age)*time.Second < c.maxAge {
		params.Del("max_age")
	}
	ways, demanded := strings.Fields(wanted.Get("acr_values")), strings.Fields(params.Get("acr_values"))
	if len(ways) > 0 && len(demanded) > 0 {
		// Their order is that of preference, and says nothing of which is the stronger one.
		ways = slices.DeleteFunc(ways, func(way string) bool { return !slices.Contains(demanded, way) })
		if len(ways) == 0 {
			return nil, &transport.Error{Kind: transport.ErrMisconfigured, Op: "login", Field: field,
				Err:    fmt.Errorf("the API demands one of the acr_values %q, and the program others", text.Clean(params.Get("acr_values"))),
				Remedy: "if such a login is good enough for the program, add that to its acr_values, after those that it prefers"}
		}
		params.Set("acr_values", strings.Join(ways, " "))
	}
	return params, nil
}

func repeated() error {
	return refused(RefusedRepeated, "a login was made for this less than a minute ago, and did not help: find out why it is not accepted")
}

// causeMember is the member of Record.Extra that says what a login was made for: the fingerprint
// of its cause.
const causeMember = "login.cause"

// answerCause makes the flow request what Cause demands, together with what Former has.
func (f *flow) answerCause() error {
	var why cause
	if f.Cause != nil {
		var ok bool
		if why, ok = causeOf(f.Cause); !ok {
			return f.Cause
		}
		f.fingerprint = why.fingerprint()
		if f.Former != nil && string(f.Former.Extra[causeMember]) == f.fingerprint && time.Since(f.Former.AuthorizedAt) < why.soon() {
			return repeated()
		}
	}
	if len(why.params) > 0 {
		const field = "Config.AuthParams"
		demanded, err := why.besides(field, f.Provider.AuthParams, f.AuthParams)
		if err == nil {
			f.AuthParams, err = withParams(field, f.AuthParams, demanded)
		}
		if err != nil {
			return err
		}
	}
	wanted := slices.Clone(why.scopes)
	if f.Former != nil {
		wanted = append(wanted, strings.Fields(f.Former.Scope)...)
	}
	if further := more(f.Endpoint.Scopes, wanted); len(further) > 0 {
		e := *f.Endpoint
		e.Scopes = append(slices.Clone(e.Scopes), further...)
		f.Endpoint = &e
	}
	return nil
}

// settle makes sure that a login replaces one of the same user, and notes what it was made for and
// which resources it asked for.
func (f *flow) settle(rec *tokencache.Record) error {
	if f.Former != nil {
		was, is := AccountOf(f.Former).Subject, AccountOf(rec).Subject
		if was != "" && is != "" && was != is {
			return refused(RefusedOtherAccount, "log in as the same user as before, or end that login first")
		}
	}
	keep(rec, causeMember, f.fingerprint)
	if asked := f.requested()["resource"]; len(more(slices.Concat(f.Endpoint.Params["resource"], f.Endpoint.AuthParams["resource"]), asked)) > 0 {
		keep(rec, renewal.AskedFor, url.Values{"resource": asked}.Encode())
	}
	return nil
}

// keep stores with a login how it was made.
func keep(rec *tokencache.Record, member, value string) {
	if value == "" {
		return
	}
	if rec.Extra == nil {
		rec.Extra = make(map[string]tokencache.Secret)
	}
	rec.Extra[member] = tokencache.Secret(value)
}

// withParams returns the parameters of all sets. Later ones replace earlier ones, but claims are
// merged. field is where they can be changed.
func withParams(field string, sets ...url.Values) (url.Values, error) {
	all, demanded := url.Values{}, ""
	for _, set := range sets {
		for name, values := range set {
			all[name] = slices.Clone(values)
		}
		var err error
		if demanded, err = demands.Merge(demanded, set.Get("claims")); err != nil {
			return nil, &transport.Error{Kind: transport.ErrMisconfigured, Op: "login", Field: field, Err: err,
				Remedy: "change the parameter claims, so that it is a JSON object and goes together with what is demanded"}
		}
	}
	if demanded != "" {
		all.Set("claims", demanded)
	}
	return all, nil
}
