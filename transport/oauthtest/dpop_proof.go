package oauthtest

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"net/http"
	"slices"
	"time"

	"github.com/stayauth/stayauth/transport/oauthtest/internal/jwt"
)

// minJTI is the length of 96 random bits in base64, the least that makes a proof unique (RFC
// 9449 section 4.2).
const minJTI = 16

// A proof is what a client has signed to show that it has a key (RFC 9449 section 4.2).
type proof struct {
	id, method, url, nonce, hash string
	issued                       time.Time
}

func badProof(why string) *oauthError {
	return &oauthError{http.StatusBadRequest, "invalid_dpop_proof", why}
}

// prove checks the proof of a request (RFC 9449 section 4.3) and returns the thumbprint of its
// key, or nothing if there is no proof and none is required. The proof must have the hash of the
// access token, if there is one.
func (s *Server) prove(r *http.Request, n *nonces, accessToken string) (thumbprint string, e *oauthError) {
	header := r.Header.Values("DPoP")
	switch {
	case s.cfg.DPoP.Mode == DPoPIgnored || len(header) == 0 && s.cfg.DPoP.Mode == DPoPOptional:
		return "", nil
	case len(header) == 0:
		return "", badProof("a proof is required")
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.counts.Proofs += len(header)
	s.secrets = append(s.secrets, header...)
	if len(header) > 1 {
		s.counts.BadProofs++
		return "", badProof("more than one proof")
	}
	p, thumbprint, why := s.readProof(header[0])
	if why == "" {
		why = s.misfit(p, r, accessToken)
	}
	if why != "" {
		s.counts.BadProofs++
		return "", badProof(why)
	}
	if e := s.checkNonce(p, n); e != nil {
		s.counts.NonceChallenges++
		if n == &s.apiNonces {
			s.counts.APINonceChallenges++
		}
		return "", e
	}
	if off := p.issued.Sub(s.now()); off.Abs() > s.cfg.DPoP.Window {
		s.counts.BadProofs++
		return "", badProof("iat is too far from the time of the server")
	}
	return thumbprint, nil
}

// readProof returns what a proof says and the thumbprint of its key, or why it is refused for
// what it is. s.mu is held.
func (s *Server) readProof(text string) (p proof, thumbprint, why string) {
	var claims map[string]json.RawMessage
	t, ok := jwt.Parse(text, &claims)
	if !ok {
		return p, "", "the proof is no JWT"
	}
	if t.Type != "dpop+jwt" {
		return p, "", "typ is to be dpop+jwt"
	}
	if !slices.Contains(s.cfg.DPoP.Algorithms, t.Algorithm) {
		return p, "", "alg is not one of those in the metadata"
	}
	key, err := jwt.PublicKey(t.Key)
	if err != nil {
		return p, "", err.Error()
	}
	if !t.SignedBy(key) {
		return p, "", "the signature is not that of the key in jwk"
	}
	var seconds int64
	for name, into := range map[string]any{"jti": &p.id, "htm": &p.method, "htu": &p.url, "iat": &seconds, "nonce": &p.nonce, "ath": &p.hash} {
		raw, ok := claims[name]
		if required := name != "nonce" && name != "ath"; !ok && required || ok && json.Unmarshal(raw, into) != nil {
			return p, "", name + " is missing or malformed"
		}
	}
	if len(p.id) < minJTI {
		return p, "", "jti is too short"
	}
	if s.proofs[p.id] {
		s.counts.RepeatedProofs++
		return p, "", "jti was used before"
	}
	s.proofs[p.id] = true // also if the proof is refused below: every request needs a new one
	p.issued = time.Unix(seconds, 0)
	return p, jwt.Thumbprint(key), ""
}

// misfit returns why a proof is not that of a request.
func (s *Server) misfit(p proof, r *http.Request, accessToken string) string {
	hash := ""
	if accessToken != "" {
		sum := sha256.Sum256([]byte(accessToken))
		hash = base64.RawURLEncoding.EncodeToString(sum[:])
	}
	switch {
	case p.method != r.Method:
		return "htm is not the method of the request"
	case p.url != origin(r)+r.URL.EscapedPath():
		return "htu is not the URL of the request, without query and fragment"
	case p.hash != "" && hash == "":
		return "ath, though there is no access token"
	case p.hash != hash:
		return "ath is not the hash of the access token"
	}
	return ""
}

// checkNonce reports whether a proof lacks the nonce that it needs. s.mu is held.
func (s *Server) checkNonce(p proof, n *nonces) *oauthError {
	other := &s.apiNonces
	if n == other {
		other = &s.tokenNonces
	}
	if other.issued[p.nonce] {
		s.counts.StrayNonces++
	}
	if !s.insists(n) {
		return nil
	}
	current := n.now(s.cfg.DPoP.NonceTTL) // n.former is up to date after that
	if p.nonce != "" && (p.nonce == current || p.nonce == n.former) {
		return nil
	}
	return &oauthError{http.StatusBadRequest, "use_dpop_nonce", "the proof needs the nonce in DPoP-Nonce"}
}
