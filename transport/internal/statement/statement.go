// Package statement makes signed statements about a client or those for whom it acts (RFC 7523
// section 3), with keys that may be in a key service.
package statement

import (
	"cmp"
	"crypto"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/stayauth/stayauth/transport"
	"github.com/stayauth/stayauth/transport/internal/jws"
	"github.com/stayauth/stayauth/transport/internal/text"
)

// A Key is that of package clientauth.
type Key struct {
	Signer      crypto.Signer
	Algorithm   string
	ID          string
	Certificate *x509.Certificate
}

// A Statement is what is said. Times are those of the reader's clock.
type Statement struct {
	Type       string // "typ"; default: "JWT"
	Issuer     string
	Subject    string
	Audience   string // always one: servers differ about lists
	Now        time.Time
	Lifetime   time.Duration
	Algorithms []string       // that the reader knows; none: any
	Claims     map[string]any // further ones; they do not replace those above
}

// Make returns a statement that was never made before. Errors are *transport.Error; field names
// the configuration field that has the key.
func Make(field string, key *Key, s Statement) (string, error) {
	if key == nil || key.Signer == nil {
		return "", Misconfigured(field, "it must return a key with a Signer", nil)
	}
	alg, err := jws.Algorithm(key.Signer.Public(), key.Algorithm)
	if err != nil {
		return "", Misconfigured(field, "use a key that providers accept, and Algorithm with an RSA key only", err)
	}
	if listed := s.Algorithms; len(listed) > 0 {
		if key.Algorithm == "" && alg == jws.RS256 && !slices.Contains(listed, alg) && slices.Contains(listed, jws.PS256) {
			alg = jws.PS256 // The same key, in the better way.
		}
		if !slices.Contains(listed, alg) {
			return "", Misconfigured(field, fmt.Sprintf("use another key or Algorithm: the provider does not list %s, only %s", alg, text.Clean(strings.Join(listed, ", "))), nil)
		}
	}
	header := map[string]any{"typ": cmp.Or(s.Type, "JWT")}
	if key.ID != "" {
		header["kid"] = key.ID
	}
	if key.Certificate != nil {
		sum := sha256.Sum256(key.Certificate.Raw)
		header["x5t#S256"] = base64.RawURLEncoding.EncodeToString(sum[:])
	}
	if _, err := json.Marshal(s.Claims); err != nil {
		return "", Misconfigured("JWT.Claims", "use what can be said in JSON", err)
	}
	claims := make(map[string]any)
	for name, value := range s.Claims {
		claims[name] = value
	}
	for name, value := range map[string]string{"iss": s.Issuer, "sub": s.Subject, "aud": s.Audience} {
		if value != "" {
			claims[name] = value
		}
	}
	claims["iat"], claims["exp"] = s.Now.Unix(), s.Now.Unix()+int64(s.Lifetime/time.Second)
	claims["jti"] = rand.Text()
	signed, err := jws.Sign(key.Signer, alg, header, claims)
	if err != nil {
		return "", Unavailable(err, "the private key has not signed")
	}
	return signed, nil
}

// Misconfigured is the error of a field that is wrong.
func Misconfigured(field, remedy string, cause error) error {
	return &transport.Error{Kind: transport.ErrMisconfigured, Field: field, Remedy: remedy, Err: cause}
}

// Unavailable says that nothing was sent, unless cause says something better.
func Unavailable(cause error, what string) error {
	if e, ok := errors.AsType[*transport.Error](cause); ok {
		return e
	}
	return &transport.Error{Kind: transport.ErrUnavailable, Err: cause, Remedy: what + ", so nothing was sent"}
}
