package oauthtest

import (
	"bytes"
	"io"
	"net/http"
	"net/url"
)

// oneAtATime lets the endpoint serve a request, unless [Config].OneAtATime refuses it because
// another request with its refresh token is in progress.
func (s *Server) oneAtATime(w http.ResponseWriter, r *http.Request, endpoint func() http.Handler) {
	if !s.cfg.OneAtATime || r.URL.Path != "/token" || r.Method != http.MethodPost {
		endpoint().ServeHTTP(w, r)
		return
	}
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return // The client has gone.
	}
	r = r.WithContext(r.Context())
	r.Body = io.NopCloser(bytes.NewReader(body))
	form, _ := url.ParseQuery(string(body)) // The endpoint will say what is wrong with it.
	if token := form.Get("refresh_token"); token != "" {
		if e := s.startWork(token); e != nil {
			e.write(w)
			return
		}
		defer s.endWork(token)
	}
	endpoint().ServeHTTP(w, r)
}

func (s *Server) startWork(token string) *oauthError {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.atWork[token] {
		return s.invalidGrant("token request is already being processed")
	}
	s.atWork[token] = true
	return nil
}

func (s *Server) endWork(token string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.atWork, token)
}
