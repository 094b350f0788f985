package oauthtest

import (
	"cmp"
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"encoding/json"
	"mime"
	"net/http"
	"net/url"
	"time"

	"github.com/stayauth/stayauth/transport/internal/claims"
)

// An oauthError is an error answer of RFC 6749 section 5.2.
type oauthError struct {
	status     int
	code, desc string
}

func (e *oauthError) write(w http.ResponseWriter) {
	if e.status == http.StatusUnauthorized {
		w.Header().Set("WWW-Authenticate", `Basic realm="oauthtest"`)
	}
	if e.status == http.StatusMethodNotAllowed {
		w.Header().Set("Allow", http.MethodPost)
	}
	noStore(w)
	writeJSON(w, e.status, map[string]string{"error": e.code, "error_description": e.desc})
}

func noStore(w http.ResponseWriter) {
	w.Header().Set("Cache-Control", "no-store")
	w.Header().Set("Pragma", "no-cache")
}

// invalidGrant counts. s.mu is held.
func (s *Server) invalidGrant(desc string) *oauthError {
	s.counts.InvalidGrants++
	return &oauthError{http.StatusBadRequest, "invalid_grant", desc}
}

// serveToken is the token endpoint (RFC 6749 section 3.2).
func (s *Server) serveToken(w http.ResponseWriter, r *http.Request) {
	if !sleep(r.Context(), s.cfg.Latency/2) {
		return
	}
	s.offerNonce(w, &s.tokenNonces)
	form, e := s.authenticate(r)
	var thumbprint string
	if e == nil {
		thumbprint, e = s.prove(r, &s.tokenNonces, "")
	}
	var answer map[string]any
	if e == nil {
		answer, e = s.grant(form, origin(r), thumbprint, s.certificate(r))
	}
	if !sleep(r.Context(), s.cfg.Latency-s.cfg.Latency/2) {
		return
	}
	if e != nil {
		e.write(w)
		return
	}
	noStore(w)
	writeJSON(w, http.StatusOK, answer)
}

// sleep waits as a busy server does. It returns false if the client has gone.
func sleep(ctx context.Context, d time.Duration) bool {
	if d <= 0 {
		return true
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// form parses the parameters of a request, as strictly as RFC 6749 section 3.2 allows: POST,
// form-encoded, nothing in the URI, nothing repeated.
func form(r *http.Request) (url.Values, *oauthError) {
	if r.Method != http.MethodPost {
		return nil, &oauthError{http.StatusMethodNotAllowed, "invalid_request", "POST is required"}
	}
	if t, _, _ := mime.ParseMediaType(r.Header.Get("Content-Type")); t != "application/x-www-form-urlencoded" {
		return nil, &oauthError{400, "invalid_request", "a form-encoded body is required"}
	}
	if r.URL.RawQuery != "" {
		return nil, &oauthError{400, "invalid_request", "parameters in the URI"}
	}
	if err := r.ParseForm(); err != nil {
		return nil, &oauthError{400, "invalid_request", "malformed form"}
	}
	for k, v := range r.PostForm {
		if len(v) > 1 && k != "resource" && (k != "audience" || r.PostForm.Get("grant_type") != tokenExchangeGrant) { // RFC 8707, RFC 8693 section 2.1
			return nil, &oauthError{400, "invalid_request", "repeated parameter"}
		}
	}
	return r.PostForm, nil
}

// authenticate parses the parameters and checks that the client authenticated in the one way
// that it is registered for (RFC 6749 section 2.3).
func (s *Server) authenticate(r *http.Request) (url.Values, *oauthError) {
	f, e := form(r)
	if e != nil {
		return nil, e
	}
	id, secret, basic := r.BasicAuth()
	if basic && f.Has("client_secret") {
		return nil, &oauthError{400, "invalid_request", "more than one way of client authentication"}
	}
	style := AuthNone
	switch {
	case f.Has("client_assertion"):
		if basic || f.Has("client_secret") {
			return nil, &oauthError{400, "invalid_request", "more than one way of client authentication"}
		}
		if s.cfg.AuthStyle == AuthPrivateKey {
			if e := s.checkAssertion(f, origin(r)); e != nil {
				return nil, e
			}
			return f, nil
		}
		style = AuthPrivateKey
	case basic:
		style = AuthBasic
		var err1, err2 error
		id, err1 = url.QueryUnescape(id)
		secret, err2 = url.QueryUnescape(secret)
		if err1 != nil || err2 != nil {
			return nil, &oauthError{401, "invalid_client", "client id and secret are to be form-encoded"}
		}
	default:
		id, secret = f.Get("client_id"), f.Get("client_secret")
		if f.Has("client_secret") {
			style = AuthPost
		}
	}
	if s.cfg.AuthStyle == AuthCertificate && style == AuthNone {
		if s.certificate(r) == "" || id != s.cfg.ClientID {
			return nil, &oauthError{401, "invalid_client", "unknown client, or no certificate of it"}
		}
		return f, nil
	}
	same := subtle.ConstantTimeCompare([]byte(secret), []byte(s.cfg.ClientSecret)) == 1
	switch {
	case style != s.cfg.AuthStyle:
		return nil, &oauthError{401, "invalid_client", "the client is registered for another authentication method"}
	case id != s.cfg.ClientID || !same:
		return nil, &oauthError{401, "invalid_client", "unknown client or wrong secret"}
	}
	return f, nil
}

// grant commits: when it returns, what was presented is spent. All of that is atomic. The
// thumbprint is that of the key that was proven, or empty.
func (s *Server) grant(f url.Values, issuer, thumbprint, certificate string) (map[string]any, *oauthError) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if e := s.checkBinding(f, thumbprint); e != nil {
		return nil, e
	}
	if badClaims(f.Get("claims")) { // before anything is spent
		return nil, &oauthError{400, "invalid_request", "claims are to be a JSON object"}
	}
	if e := s.checkResources(f); e != nil {
		return nil, e
	}
	var t Tokens
	var e *oauthError
	switch f.Get("grant_type") {
	case "refresh_token":
		t, e = s.spend(f.Get("refresh_token"), f.Get("scope"), issuer)
	case "authorization_code":
		t, e = s.redeem(f, issuer)
	case "urn:ietf:params:oauth:grant-type:device_code":
		t, e = s.poll(f.Get("device_code"), issuer)
	case "client_credentials":
		t, e = s.clientCredentials(f.Get("scope"), issuer)
	case jwtBearerGrant:
		t, e = s.jwtBearer(f, issuer)
	case tokenExchangeGrant:
		t, e = s.tokenExchange(f, issuer)
	case "":
		e = &oauthError{400, "invalid_request", "no grant_type"}
	default:
		e = &oauthError{400, "unsupported_grant_type", "see grant_types_supported"}
	}
	if e != nil {
		return nil, e
	}
	a := s.access[t.AccessToken]
	if all, err := claims.Merge(a.login.claims, f.Get("claims")); err == nil {
		a.claims = all
	} else {
		a.claims = f.Get("claims") // which contradicts what was asked for at the login
	}
	a.certificate = certificate
	if asked := f["resource"]; len(asked) > 0 {
		a.resources = asked
	}
	s.bind(t, thumbprint)
	answer := s.answer(t)
	if f.Get("grant_type") == tokenExchangeGrant {
		answer["issued_token_type"] = accessTokenType
	}
	return answer, nil
}

// answer returns the body of RFC 6749 section 5.1. s.mu is held.
func (s *Server) answer(t Tokens) map[string]any {
	now := time.Now()
	m := map[string]any{"access_token": t.AccessToken, "token_type": "Bearer", "scope": t.Scope}
	if s.access[t.AccessToken].thumbprint != "" {
		m["token_type"] = "DPoP"
	}
	if !s.cfg.NoExpiresIn {
		m["expires_in"] = seconds(t.Expiry.Sub(now))
	}
	if t.IDToken != "" {
		m["id_token"] = t.IDToken
	}
	if t.RefreshToken != "" {
		m["refresh_token"] = t.RefreshToken
		l := s.refresh[t.RefreshToken].login
		switch ends := l.ends(s.cfg); {
		case s.cfg.RefreshIdle > 0:
			m["refresh_expires_in"] = seconds(ends.Sub(now)) // Keycloak's name
		case s.cfg.RefreshTTL > 0:
			m["refresh_token_expires_in"] = seconds(ends.Sub(now))
		}
	}
	return m
}

// seconds rounds, because a moment has passed since the expiry was computed, but never down to
// zero, which clients take to mean all sorts of things.
func seconds(d time.Duration) int64 { return max(1, int64(d.Round(time.Second)/time.Second)) }

// idToken is signed with the client secret, HS256 (OpenID Connect Core section
// 10.1), or with a key that nobody has if there is none. s.mu is held.
func (s *Server) idToken(l *login, issuer string, expiry time.Time) string {
	claims := map[string]any{
		"iss": issuer, "sub": l.account, "aud": s.cfg.ClientID,
		"iat": s.now().Unix(), "exp": expiry.Add(s.cfg.Ahead).Unix(), "auth_time": l.since.Add(s.cfg.Ahead).Unix(),
		"jti": s.secret("id-"), // so that no two ID tokens are the same
	}
	if l.nonce != "" {
		claims["nonce"] = l.nonce
	}
	if l.acr != "" {
		claims["acr"] = l.acr
	}
	body, err := json.Marshal(claims)
	if err != nil {
		panic(err) // Strings and numbers only.
	}
	enc := base64.RawURLEncoding
	token := enc.EncodeToString([]byte(`{"alg":"HS256","typ":"JWT"}`)) + "." + enc.EncodeToString(body)
	mac := hmac.New(sha256.New, []byte(cmp.Or(s.cfg.ClientSecret, rand.Text())))
	mac.Write([]byte(token))
	token += "." + enc.EncodeToString(mac.Sum(nil))
	s.secrets = append(s.secrets, token)
	return token
}
