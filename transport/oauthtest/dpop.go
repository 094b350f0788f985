package oauthtest

import (
	"crypto"
	"crypto/rand"
	"net/http"
	"net/url"
	"time"

	"github.com/stayauth/stayauth/transport/oauthtest/internal/jwt"
)

// A DPoPMode says what a server makes of proofs of possession (RFC 9449).
type DPoPMode int

// The kinds of servers.
const (
	DPoPIgnored  DPoPMode = iota // proofs are not looked at, and all tokens are bearer tokens
	DPoPOptional                 // who sends a proof gets tokens that are bound to the key
	DPoPRequired                 // nobody gets any other token
)

// DPoP says how a Server binds tokens to keys (RFC 9449). It is strict: a proof is accepted
// once, with exactly the URL and method of its request, and refresh tokens of a public client
// (AuthNone) are bound as well. A refresh token that is presented without the right proof is
// refused with invalid_grant, as real servers do, but it is not spent.
type DPoP struct {
	Mode DPoPMode // Default: DPoPIgnored.

	// TokenNonces and APINonces make the token endpoint and the API insist on a nonce that
	// they have handed out, each its own, and hand out the next one with every answer. A
	// nonce is replaced after NonceTTL (default: one minute, as long as with
	// oidc-provider), and is accepted for that long once more.
	TokenNonces, APINonces bool
	NonceTTL               time.Duration

	// Window is how much earlier or later than the server's clock says a proof may have been
	// made. Default: 15 seconds. Keycloak.
	Window time.Duration

	// Unforgiving ends the login when its refresh token is presented without the right proof,
	// and wants a proof for revocation too. Bluesky.
	Unforgiving bool

	Algorithms []string // Those that are accepted. Default: ES256, PS256, EdDSA and Ed25519.
}

func (d *DPoP) setDefaults() {
	if d.NonceTTL == 0 {
		d.NonceTTL = time.Minute
	}
	if d.Window == 0 {
		d.Window = clockTolerance
	}
	if d.Algorithms == nil {
		d.Algorithms = []string{"ES256", "PS256", "EdDSA", "Ed25519"}
	}
}

// schemes are the authentication schemes of the API.
func (d *DPoP) schemes() []string {
	return [...][]string{DPoPIgnored: {"Bearer"}, DPoPOptional: {"Bearer", "DPoP"}, DPoPRequired: {"DPoP"}}[d.Mode]
}

// LoginBound is Login with tokens that are bound to a key, which may be an *ecdsa.PublicKey on
// P-256, an *rsa.PublicKey or an ed25519.PublicKey.
func (s *Server) LoginBound(account string, key crypto.PublicKey) Tokens {
	t, thumbprint := s.Login(account), jwt.Thumbprint(key)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.bind(t, thumbprint)
	t.Thumbprint = thumbprint
	return t
}

// checkBinding reports why the key that was proven is not that of the grant. s.mu is held.
func (s *Server) checkBinding(f url.Values, thumbprint string) *oauthError {
	want := ""
	var l *login
	switch f.Get("grant_type") {
	case "refresh_token":
		if r := s.refresh[f.Get("refresh_token")]; r != nil {
			l, want = r.login, r.login.thumbprint
		}
	case "authorization_code":
		if c := s.codes[f.Get("code")]; c != nil {
			want = c.thumbprint // RFC 9449 section 10
		}
	}
	if want != "" && want != thumbprint {
		if l != nil && s.cfg.DPoP.Unforgiving {
			s.revoke(l)
		}
		return s.invalidGrant("it is bound to another key than the one that was proven")
	}
	return nil
}

// bind binds what was issued to a key, if there is one. s.mu is held.
func (s *Server) bind(t Tokens, thumbprint string) {
	a := s.access[t.AccessToken]
	a.thumbprint = thumbprint
	if t.RefreshToken != "" && s.cfg.AuthStyle == AuthNone {
		a.login.thumbprint = thumbprint
	}
	if c := s.current[a.login.account]; c.AccessToken == t.AccessToken {
		c.Thumbprint = thumbprint
		s.current[a.login.account] = c
	}
}

// nonces are those of one server (RFC 9449 section 8).
type nonces struct {
	current, former string
	since           time.Time       // when current was made
	issued          map[string]bool // all there ever were
}

// now returns the nonce that is handed out now.
func (n *nonces) now(life time.Duration) string {
	switch age := time.Since(n.since); {
	case n.current == "" || age >= 2*life:
		n.former = ""
	case age < life:
		return n.current
	default:
		n.former = n.current
	}
	n.current, n.since = "nonce-"+rand.Text(), time.Now()
	if n.issued == nil {
		n.issued = map[string]bool{}
	}
	n.issued[n.current] = true
	return n.current
}

// RotateNonces makes all nonces bad that were handed out so far.
func (s *Server) RotateNonces() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.tokenNonces.current, s.apiNonces.current = "", ""
	s.tokenNonces.former, s.apiNonces.former = "", ""
}

// insists reports whether proofs must have one of these nonces.
func (s *Server) insists(n *nonces) bool {
	if s.cfg.DPoP.Mode == DPoPIgnored {
		return false
	}
	if n == &s.apiNonces {
		return s.cfg.DPoP.APINonces
	}
	return s.cfg.DPoP.TokenNonces
}

// offerNonce hands out the nonce for the next proof (RFC 9449 section 8.2).
func (s *Server) offerNonce(w http.ResponseWriter, n *nonces) {
	if s.insists(n) {
		s.mu.Lock()
		w.Header().Set("DPoP-Nonce", n.now(s.cfg.DPoP.NonceTTL))
		s.mu.Unlock()
	}
}
