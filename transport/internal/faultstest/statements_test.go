package faultstest

import (
	"encoding/base64"
	"encoding/json"
	"io"
	"net/http"
	"net/url"
	"strings"
	"sync"
)

// statements are those about the client that were sent to a provider, whatever became of the
// requests. Each must be another.
type statements struct {
	mu            sync.Mutex
	seen          map[string]bool // by jti
	all, repeated int
}

// note notes the statement of a form, if there is one.
func (s *statements) note(form string) {
	f, _ := url.ParseQuery(form)
	parts := strings.Split(f.Get("client_assertion"), ".")
	if len(parts) != 3 {
		return
	}
	var claims struct{ JTI string }
	raw, _ := base64.RawURLEncoding.DecodeString(parts[1])
	json.Unmarshal(raw, &claims) // One without a jti is taken for a repeated one.
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.seen == nil {
		s.seen = map[string]bool{"": true}
	}
	s.all++
	if s.seen[claims.JTI] {
		s.repeated++
	}
	s.seen[claims.JTI] = true
}

func (s *statements) count() (all, repeated int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.all, s.repeated
}

// watch notes what is sent over base.
func (s *statements) watch(base http.RoundTripper) http.RoundTripper {
	return roundTripper(func(r *http.Request) (*http.Response, error) {
		if r.GetBody != nil {
			if body, err := r.GetBody(); err == nil {
				form, _ := io.ReadAll(body)
				s.note(string(form))
			}
		}
		return base.RoundTrip(r)
	})
}
