package oauthtest

import (
	"crypto/rand"
	"net/http"
	"net/url"
	"time"
)

// pushed are the parameters of an authorization request that the client has sent itself (RFC
// 9126).
type pushed struct {
	params url.Values
	expiry time.Time
}

// parTTL is how long the browser may take.
const parTTL = time.Minute

// servePAR is the endpoint for pushed authorization requests.
func (s *Server) servePAR(w http.ResponseWriter, r *http.Request) {
	s.offerNonce(w, &s.tokenNonces)
	f, e := s.authenticate(r)
	if e == nil && f.Has("request_uri") {
		e = &oauthError{400, "invalid_request", "request_uri in a pushed request"} // RFC 9126 section 2.1
	}
	if e == nil && r.Header.Get("DPoP") != "" { // RFC 9449 section 10.1: not required, dpop_jkt does.
		var thumbprint string
		thumbprint, e = s.prove(r, &s.tokenNonces, "")
		if jkt := f.Get("dpop_jkt"); e == nil && thumbprint != "" && jkt != "" && jkt != thumbprint {
			e = badProof("dpop_jkt is of another key")
		}
		if thumbprint != "" {
			f.Set("dpop_jkt", thumbprint)
		}
	}
	if e != nil {
		e.write(w)
		return
	}
	s.mu.Lock()
	uri := "urn:ietf:params:oauth:request_uri:" + "par-" + rand.Text() // which the browser, and its user, may see
	for _, name := range []string{"client_secret", "client_assertion", "client_assertion_type"} {
		f.Del(name)
	}
	f.Set("client_id", s.cfg.ClientID)
	s.pushed[uri] = &pushed{f, time.Now().Add(parTTL)}
	s.mu.Unlock()
	noStore(w)
	writeJSON(w, http.StatusCreated, map[string]any{"request_uri": uri, "expires_in": int(parTTL / time.Second)})
}

// pulled returns the parameters of an authorization request: those that were pushed, if it names
// them, which it can do once.
func (s *Server) pulled(q url.Values) (url.Values, bool) {
	uri := q.Get("request_uri")
	if uri == "" {
		return q, true
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	p := s.pushed[uri]
	delete(s.pushed, uri)
	if p == nil || !time.Now().Before(p.expiry) || q.Get("client_id") != s.cfg.ClientID {
		return nil, false
	}
	return p.params, true
}
