package oauthtest

import (
	"crypto/sha256"
	"encoding/hex"
	"io"
	"net/http"
	"slices"
	"strings"
)

// Echo is the answer of the API, as JSON: what it received and from whom. The length and hash
// of the body show whether it arrived whole.
type Echo struct {
	Method  string `json:"method"`
	Path    string `json:"path"`
	Account string `json:"account"`
	Length  int64  `json:"length"`
	SHA256  string `json:"sha256"` // of the body, in hex
}

// serveAPI is a resource server of RFC 6750. It rejects a token before it reads the body, as
// real ones do.
func (s *Server) serveAPI(w http.ResponseWriter, r *http.Request) {
	s.offerNonce(w, &s.apiNonces)
	header := r.Header.Values("Authorization")
	if r.URL.RawQuery != "" && r.URL.Query().Has("access_token") || len(header) > 1 {
		// RFC 6750 section 2: one method; RFC 9700 section 4.3.2: never in the URI.
		w.Header().Set("WWW-Authenticate", `Bearer realm="oauthtest", error="invalid_request"`)
		writeJSON(w, http.StatusBadRequest, map[string]string{"error": "invalid_request"})
		return
	}
	var scheme, token string
	if len(header) == 1 {
		scheme, token, _ = strings.Cut(header[0], " ")
	}
	var thumbprint string
	switch {
	case s.cfg.DPoP.Mode != DPoPIgnored && strings.EqualFold(scheme, "DPoP"):
		scheme = "DPoP"
		var e *oauthError
		if thumbprint, e = s.prove(r, &s.apiNonces, token); e == nil && thumbprint == "" {
			e = badProof("a proof is required")
		}
		if e != nil {
			s.refuse(w, r, scheme, e.code, e.desc)
			return
		}
	case strings.EqualFold(scheme, "Bearer"):
		scheme = "Bearer"
	default:
		s.refuse(w, r, "", "", "")
		return
	}
	account, ok, status, lacks := s.admit(token, origin(r), thumbprint, s.certificate(r))
	if !ok {
		s.refuse(w, r, scheme, "invalid_token", "expired, revoked or unknown")
		return
	}
	if status != 0 {
		w.Header().Set("WWW-Authenticate", scheme+` realm="oauthtest", `+lacks)
		writeJSON(w, status, map[string]string{"error": "refused"})
		return
	}
	hash := sha256.New()
	n, err := io.Copy(hash, r.Body)
	if err != nil {
		return // The client has gone.
	}
	writeJSON(w, http.StatusOK, Echo{
		Method: r.Method, Path: r.URL.Path, Account: account,
		Length: n, SHA256: hex.EncodeToString(hash.Sum(nil)),
	})
}

// admit says whose token it is, whether it is good for the API at that origin and for who has proven
// to have that key or certificate, and what it lacks, see unmet.
func (s *Server) admit(token, origin, thumbprint, certificate string) (account string, ok bool, status int, lacks string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	a := s.access[token]
	if a == nil || !s.good(a) || a.certificate != "" && a.certificate != certificate {
		return "", false, 0, ""
	}
	if a.thumbprint != thumbprint { // RFC 9449 section 7.2: a bound one is no bearer token.
		if thumbprint == "" {
			s.counts.Downgrades++
		}
		return "", false, 0, ""
	}
	if s.cfg.Resources != nil && !slices.Contains(a.resources, origin) {
		s.counts.Misdirected++
		return "", false, 0, ""
	}
	status, lacks = s.unmet(a)
	return a.login.account, true, status, lacks
}

// refuse rejects a request. The error is of the scheme that the request used. The others that the
// API accepts are offered as well (RFC 9449 section 7.2).
func (s *Server) refuse(w http.ResponseWriter, r *http.Request, scheme, code, description string) {
	var challenges []string
	for _, offered := range s.cfg.DPoP.schemes() {
		c := offered + ` realm="oauthtest"`
		if offered == scheme && code != "" {
			c += `, error="` + code + `", error_description="` + description + `"`
		}
		if offered == "DPoP" {
			c += `, algs="` + strings.Join(s.cfg.DPoP.Algorithms, " ") + `"`
		}
		if s.publishes() {
			c += `, resource_metadata="` + origin(r) + resourceWellKnown + `"`
		}
		challenges = append(challenges, c)
	}
	challenge(w, challenges...)
}

func challenge(w http.ResponseWriter, challenges ...string) {
	for _, c := range challenges {
		w.Header().Add("WWW-Authenticate", c)
	}
	writeJSON(w, http.StatusUnauthorized, map[string]string{"error": "invalid_token"})
}
