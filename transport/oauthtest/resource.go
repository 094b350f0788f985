package oauthtest

import (
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"
)

// resourceWellKnown is where the metadata of the API is (RFC 9728 section 3.1).
const resourceWellKnown = "/.well-known/oauth-protected-resource/api"

// PublishResource makes the API publish metadata of itself (RFC 9728), and name it in the
// challenges with which it rejects requests: that it is the resource APIURL, and that this server
// issues its tokens. The members of change replace those, for an API that moves to another
// authorization server or lies, and a member that is nil is left out:
//
//	s.PublishResource(map[string]any{"authorization_servers": []string{other.URL()}})
//	s.PublishResource(map[string]any{"resource": "https://bank.test/api"})
func (s *Server) PublishResource(change map[string]any) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.resource = maps.Clone(change); s.resource == nil {
		s.resource = map[string]any{}
	}
}

func (s *Server) publishes() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.resource != nil
}

func (s *Server) serveResource(w http.ResponseWriter, r *http.Request) {
	if !s.publishes() {
		http.NotFound(w, r)
		return
	}
	m := map[string]any{
		"resource":                 origin(r) + "/api",
		"authorization_servers":    []string{s.URL()},
		"scopes_supported":         strings.Fields(s.cfg.Scope),
		"bearer_methods_supported": []string{"header"},
	}
	s.mu.Lock()
	maps.Copy(m, s.resource)
	s.mu.Unlock()
	maps.DeleteFunc(m, func(_ string, v any) bool { return v == nil })
	writeJSON(w, http.StatusOK, m)
}

// granted returns the resources that a login is good for.
func (s *Server) granted(c consent) []string {
	if len(c.resources) == 0 {
		return s.cfg.Resources
	}
	return c.resources
}

// checkResources is RFC 8707 section 2.2: a token request asks for no more than was granted. If it
// does, nothing is spent. s.mu is held.
func (s *Server) checkResources(f url.Values) *oauthError {
	granted := s.cfg.Resources
	if r := s.refresh[f.Get("refresh_token")]; r != nil {
		granted = s.granted(r.login.consent)
	} else if c := s.codes[f.Get("code")]; c != nil {
		granted = s.granted(c.consent)
	} else if d := s.devices[f.Get("device_code")]; d != nil {
		granted = s.granted(d.consent)
	}
	if s.cfg.Resources == nil || subset(f["resource"], granted) {
		return nil
	}
	return &oauthError{400, "invalid_target", "unknown resource, or more than was granted"}
}

func subset(some, all []string) bool {
	return !slices.ContainsFunc(some, func(s string) bool { return !slices.Contains(all, s) })
}
