package oauthtest

import (
	"cmp"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"net/http"
	"net/url"
	"time"
)

// A code is an authorization code (RFC 6749 section 4.1).
type code struct {
	consent
	redirectURI string
	challenge   string
	expiry      time.Time
	thumbprint  string // dpop_jkt, or that of the proof with which the request was pushed
	issued      string // the refresh token it was redeemed for
}

// serveAuthorize is the authorization endpoint. The user it stands for consents
// at once, to everything, as the account that login_hint names, or else "user".
// PKCE with S256 is required (RFC 7636, RFC 9700 section 2.1.1).
func (s *Server) serveAuthorize(w http.ResponseWriter, r *http.Request) {
	q, ok := s.pulled(r.URL.Query())
	if !ok {
		http.Error(w, "unknown, used or expired request_uri", http.StatusBadRequest)
		return
	}
	back, err := url.Parse(q.Get("redirect_uri"))
	if err != nil || !back.IsAbs() || back.Fragment != "" || q.Get("client_id") != s.cfg.ClientID {
		// RFC 6749 section 4.1.2.1: never redirect then.
		http.Error(w, "unknown client_id, or redirect_uri not absolute", http.StatusBadRequest)
		return
	}
	answer := back.Query()
	if q.Has("state") {
		answer.Set("state", q.Get("state"))
	}
	answer.Set("iss", origin(r)) // RFC 9207
	agreed := consentTo(q)
	agreed.scope = cmp.Or(agreed.scope, s.cfg.Scope)
	switch {
	case q.Get("response_type") != "code":
		answer.Set("error", "unsupported_response_type")
	case q.Get("code_challenge") == "" || q.Get("code_challenge_method") != "S256":
		answer.Set("error", "invalid_request")
		answer.Set("error_description", "PKCE with S256 is required")
	case !covers(s.cfg.Scope, agreed.scope):
		answer.Set("error", "invalid_scope")
	case !subset(agreed.resources, s.cfg.Resources) && s.cfg.Resources != nil:
		answer.Set("error", "invalid_target") // RFC 8707 section 2
	case badClaims(agreed.claims):
		answer.Set("error", "invalid_request")
		answer.Set("error_description", "claims are to be a JSON object")
	default:
		agreed.account = cmp.Or(q.Get("login_hint"), "user")
		s.mu.Lock()
		c := s.secret("code-")
		s.codes[c] = &code{
			consent: agreed, redirectURI: q.Get("redirect_uri"),
			challenge: q.Get("code_challenge"), expiry: time.Now().Add(time.Minute),
		}
		if s.cfg.DPoP.Mode != DPoPIgnored {
			s.codes[c].thumbprint = q.Get("dpop_jkt")
		}
		s.mu.Unlock()
		answer.Set("code", c)
	}
	back.RawQuery = answer.Encode()
	http.Redirect(w, r, back.String(), http.StatusFound)
}

// redeem exchanges a code (RFC 6749 section 4.1.3, RFC 7636 section 4.6). A code that is
// presented a second time ends the login that it began. s.mu is held.
func (s *Server) redeem(f url.Values, issuer string) (Tokens, *oauthError) {
	verifier := f.Get("code_verifier")
	if verifier != "" {
		s.secrets = append(s.secrets, verifier)
	}
	c := s.codes[f.Get("code")]
	if c == nil || !time.Now().Before(c.expiry) {
		return Tokens{}, s.invalidGrant("unknown or expired code")
	}
	if c.issued != "" {
		s.counts.Reuses++
		if l := s.refresh[c.issued].login; !l.revoked {
			s.counts.FamiliesRevoked++
			s.revoke(l)
		}
		return Tokens{}, s.invalidGrant("code already used")
	}
	if f.Get("redirect_uri") != c.redirectURI {
		return Tokens{}, s.invalidGrant("redirect_uri is not the one of the authorization request")
	}
	sum := sha256.Sum256([]byte(verifier))
	got := base64.RawURLEncoding.EncodeToString(sum[:])
	if len(verifier) < 43 || subtle.ConstantTimeCompare([]byte(got), []byte(c.challenge)) != 1 {
		return Tokens{}, s.invalidGrant("code_verifier does not fit")
	}
	t := s.login(c.consent, issuer)
	c.issued = t.RefreshToken
	return t, nil
}

// serveRevoke is RFC 7009. Revoking a refresh token ends the login, revoking an access token
// ends only that token, and an unknown token counts as revoked.
func (s *Server) serveRevoke(w http.ResponseWriter, r *http.Request) {
	s.offerNonce(w, &s.tokenNonces)
	f, e := s.authenticate(r)
	if e == nil && f.Get("token") == "" {
		e = &oauthError{400, "invalid_request", "no token"}
	}
	var thumbprint string
	if e == nil && s.cfg.DPoP.Unforgiving {
		thumbprint, e = s.prove(r, &s.tokenNonces, "")
	}
	if e != nil {
		e.write(w)
		return
	}
	s.mu.Lock()
	token := f.Get("token")
	if t := s.refresh[token]; t != nil && s.cfg.DPoP.Unforgiving && t.login.thumbprint != thumbprint {
		// It stays, and RFC 7009 section 2.2 does not let the answer say so.
	} else if t := s.refresh[token]; t != nil {
		s.revoke(t.login)
	} else if t := s.access[token]; t != nil {
		t.revoked = true
	}
	s.mu.Unlock()
	w.WriteHeader(http.StatusOK)
}

// serveMetadata is RFC 8414.
func (s *Server) serveMetadata(w http.ResponseWriter, r *http.Request) {
	base := origin(r)
	method := [...]string{AuthBasic: "client_secret_basic", AuthPost: "client_secret_post", AuthNone: "none", AuthPrivateKey: "private_key_jwt", AuthCertificate: "tls_client_auth"}[s.cfg.AuthStyle]
	m := map[string]any{
		"issuer":                                         base,
		"authorization_endpoint":                         base + "/authorize",
		"token_endpoint":                                 base + "/token",
		"revocation_endpoint":                            base + "/revoke",
		"pushed_authorization_request_endpoint":          base + "/par",
		"device_authorization_endpoint":                  base + "/device_authorization",
		"response_types_supported":                       []string{"code"},
		"grant_types_supported":                          []string{"authorization_code", "refresh_token", "client_credentials", "urn:ietf:params:oauth:grant-type:device_code", jwtBearerGrant, tokenExchangeGrant},
		"code_challenge_methods_supported":               []string{"S256"},
		"token_endpoint_auth_methods_supported":          []string{method},
		"revocation_endpoint_auth_methods_supported":     []string{method},
		"authorization_response_iss_parameter_supported": true,
		"tls_client_certificate_bound_access_tokens":     s.cfg.ClientCertificates != nil,
	}
	if s.cfg.DPoP.Mode != DPoPIgnored {
		m["dpop_signing_alg_values_supported"] = s.cfg.DPoP.Algorithms
	}
	writeJSON(w, http.StatusOK, m)
}
