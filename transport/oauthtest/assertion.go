package oauthtest

import (
	"crypto"
	"encoding/json"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/stayauth/stayauth/transport/oauthtest/internal/jwt"
)

// An assertion is what a client has signed to prove who it is (RFC 7523 section 3).
type assertion struct {
	Issuer   string          `json:"iss"`
	Subject  string          `json:"sub"`
	Audience json.RawMessage `json:"aud"`
	Issued   int64           `json:"iat"`
	Expiry   int64           `json:"exp"`
	ID       string          `json:"jti"`
}

// The strictest bounds that are in use: an assertion lives for a minute at most (Box), and
// clocks may differ by some seconds only (Keycloak).
const (
	longestAssertion = time.Minute
	clockTolerance   = 15 * time.Second
)

// assertionType is the only client_assertion_type (RFC 7523 section 2.2).
const assertionType = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"

// checkAssertion checks a client_assertion as strictly as the strictest of the providers: the
// audience is one string, the issuer, and no assertion is accepted twice.
func (s *Server) checkAssertion(f url.Values, issuer string) *oauthError {
	s.mu.Lock()
	defer s.mu.Unlock()
	invalid := func(why string) *oauthError { return &oauthError{401, "invalid_client", why} }
	if f.Get("client_assertion_type") != assertionType {
		return invalid("client_assertion_type is to be jwt-bearer")
	}
	if id := f.Get("client_id"); id != "" && id != s.cfg.ClientID {
		return invalid("client_id is that of another client")
	}
	a, why := s.read(f.Get("client_assertion"), issuer)
	if why == "" && a.Subject != s.cfg.ClientID {
		why = "sub is to be the client"
	}
	if why != "" {
		return invalid(why)
	}
	return nil
}

// read returns what a token of the client says, or why it is refused. s.mu is held.
func (s *Server) read(token, audience string) (a assertion, why string) {
	s.counts.Assertions++
	s.secrets = append(s.secrets, token)
	t, ok := jwt.Parse(token, &a)
	if !ok {
		return a, "the assertion is no JWT"
	}
	now := s.now()
	expiry, issued := time.Unix(a.Expiry, 0), time.Unix(a.Issued, 0)
	switch {
	case !slices.ContainsFunc(s.cfg.ClientKeys, func(key crypto.PublicKey) bool { return signedBy(key, t) }):
		return a, "the signature is wrong, or its algorithm or kid is not that of a registered key"
	case a.Issuer != s.cfg.ClientID:
		return a, "iss is to be the client"
	case string(a.Audience) != quoted(audience):
		return a, "aud is to be " + audience + ", as a string"
	case !now.Before(expiry):
		return a, "the assertion has expired"
	case a.Issued == 0:
		return a, "iat is missing"
	case expiry.Sub(now) > longestAssertion+clockTolerance, expiry.Sub(issued) > longestAssertion+clockTolerance:
		return a, "the assertion expires too late"
	case issued.After(now.Add(clockTolerance)):
		return a, "the assertion was issued in the future"
	case a.ID == "":
		return a, "jti is missing"
	case s.assertions[a.ID]:
		s.counts.RepeatedAssertions++
		return a, "the assertion was used before"
	}
	s.assertions[a.ID] = true
	return a, ""
}

// SetClientKeys replaces Config.ClientKeys: a client's keys are rotated by adding the new one,
// and removing the old one when nobody uses it any more.
func (s *Server) SetClientKeys(keys ...crypto.PublicKey) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.cfg.ClientKeys = keys
}

func quoted(text string) string {
	q, _ := json.Marshal(text) // Strings always can be.
	return string(q)
}

// A NamedKey is one of Config.ClientKeys that has an ID: assertions have to say it ("kid", RFC 7515
// section 4.1.4).
type NamedKey struct {
	ID  string
	Key crypto.PublicKey
}

// signedBy reports whether the key has signed, and is the one that the header names.
func signedBy(key crypto.PublicKey, t *jwt.Token) bool {
	switch strings.ToLower(t.Type) {
	case "", "jwt", "client-authentication+jwt", "authorization-grant+jwt":
	default: // RFC 8725 section 3.11: It was made for something else.
		return false
	}
	if named, ok := key.(NamedKey); ok {
		return t.KeyID == named.ID && t.SignedBy(named.Key)
	}
	return t.SignedBy(key)
}
