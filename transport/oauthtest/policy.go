package oauthtest

import (
	"slices"
	"strings"
	"time"
)

// A login is one family of tokens: all that came from one consent of the user.
type login struct {
	consent
	since   time.Time
	used    time.Time // when it was last used
	revoked bool
	access  []*access

	// thumbprint is that of the key that the refresh tokens are bound to, if the client has
	// no other way to show who it is (RFC 9449 section 5).
	thumbprint string

	// What SecondToLastKills remembers.
	current, previous *refresh
}

// A refresh is a refresh token.
type refresh struct {
	login  *login
	spent  time.Time // when it was first spent; zero if it was not
	answer Tokens    // the last answer to it
}

// An access is an access token.
type access struct {
	login   *login
	scope   string
	expiry  time.Time
	claims  string // the claims that were asked for with it, and at the login
	revoked bool

	resources   []string // that accept it, see Config.Resources
	thumbprint  string   // of the key that it is bound to, or empty
	certificate string   // to which it is bound; "": none
}

// Login makes a login of the account without any flow, as if the user had just
// consented.
func (s *Server) Login(account string) Tokens {
	issuer := s.URL()
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.login(consent{account: account, scope: s.cfg.Scope}, issuer)
}

// login starts a family. s.mu is held.
func (s *Server) login(agreed consent, issuer string) Tokens {
	l := &login{consent: agreed, since: time.Now(), used: time.Now()}
	t := s.issueAccess(l, l.scope, issuer)
	t.RefreshToken = s.issueRefresh(l)
	s.current[l.account] = t
	return t
}

// spend handles a refresh token that is presented. s.mu is held.
func (s *Server) spend(token, scope, issuer string) (Tokens, *oauthError) {
	r := s.refresh[token]
	if r == nil {
		return Tokens{}, s.invalidGrant("unknown refresh token")
	}
	l, now := r.login, time.Now()
	if l.revoked {
		return Tokens{}, s.invalidGrant("the login was revoked")
	}
	if !now.Before(l.ends(s.cfg)) {
		return Tokens{}, s.invalidGrant("the login has expired")
	}
	if !s.accepts(r, now) {
		s.counts.Reuses++
		if s.cfg.Policy != Strict {
			s.revoke(l)
			s.counts.FamiliesRevoked++
		}
		return Tokens{}, s.invalidGrant("refresh token already used")
	}
	if scope == "" {
		scope = l.scope
	}
	if !covers(l.scope, scope) {
		return Tokens{}, &oauthError{400, "invalid_scope", "more than was granted"}
	}

	s.counts.Rotations++
	l.used = now
	if again := !r.spent.IsZero(); again && s.graceful() {
		s.counts.Replays++
		if s.cfg.GraceSame && now.Before(r.answer.Expiry) {
			return r.answer, nil
		}
	} else if !again {
		r.spent = now
	}
	if s.cfg.Policy == Strict || s.cfg.AccessDies {
		l.killAccess()
	}
	t := s.issueAccess(l, scope, issuer)
	if s.cfg.Policy == NoRotation {
		t.RefreshToken = token
		s.current[l.account] = t
		t.RefreshToken = "" // The old one stays good, and the answer does not repeat it.
		return t, nil
	}
	if r == l.current {
		l.previous = r
	}
	t.RefreshToken = s.issueRefresh(l)
	r.answer = t
	s.current[l.account] = t
	return t, nil
}

// accepts is the policy: may r be spent now?
func (s *Server) accepts(r *refresh, now time.Time) bool {
	unspent := r.spent.IsZero()
	inTime := now.Sub(r.spent) < s.cfg.GracePeriod
	switch s.cfg.Policy {
	case NoRotation, KeepOld:
		return true
	case Grace:
		return unspent || inTime
	case SecondToLastKills:
		return r == r.login.current || r == r.login.previous && (inTime || s.cfg.GracePeriod == 0)
	default: // Strict, StrictFamily
		return unspent
	}
}

func (s *Server) graceful() bool { return s.cfg.Policy == Grace || s.cfg.Policy == SecondToLastKills }

func (s *Server) issueRefresh(l *login) string {
	token := s.secret("rt-")
	r := &refresh{login: l}
	l.current = r
	s.refresh[token] = r
	return token
}

func (s *Server) issueAccess(l *login, scope, issuer string) Tokens {
	t := Tokens{AccessToken: s.secret("at-"), Scope: scope, Expiry: time.Now().Add(s.cfg.AccessTTL)}
	a := &access{login: l, scope: scope, expiry: t.Expiry, resources: s.granted(l.consent)[:min(len(s.cfg.Resources), 1)]}
	l.access = append(l.access, a)
	s.access[t.AccessToken] = a
	if covers(scope, "openid") {
		t.IDToken = s.idToken(l, issuer, t.Expiry)
	}
	return t
}

// covers reports whether every scope that is wanted was granted.
func covers(granted, wanted string) bool {
	have := strings.Fields(granted)
	for _, w := range strings.Fields(wanted) {
		if !slices.Contains(have, w) {
			return false
		}
	}
	return true
}

// ends returns when the login expires: far in the future if it does not.
func (l *login) ends(cfg Config) time.Time {
	ends := l.since.AddDate(1000, 0, 0)
	if cfg.RefreshTTL > 0 {
		ends = l.since.Add(cfg.RefreshTTL)
	}
	if idle := l.used.Add(cfg.RefreshIdle); cfg.RefreshIdle > 0 && idle.Before(ends) {
		return idle
	}
	return ends
}

func (l *login) killAccess() {
	for _, a := range l.access {
		a.revoked = true
	}
	l.access = nil
}

func (s *Server) revoke(l *login) {
	l.revoked = true
	l.killAccess()
}

// Current returns what was last issued to the account: the access token, and
// the refresh token to be spent next.
func (s *Server) Current(account string) Tokens {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.current[account]
}

// Valid reports whether the API would accept an access token now, or the token endpoint a
// refresh token.
func (s *Server) Valid(token string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := time.Now()
	if a := s.access[token]; a != nil {
		return s.good(a)
	}
	r := s.refresh[token]
	return r != nil && !r.login.revoked && s.accepts(r, now) && now.Before(r.login.ends(s.cfg))
}

// good reports whether the API, by its clock, accepts an access token. s.mu is held.
func (s *Server) good(a *access) bool {
	return !a.revoked && time.Now().Add(s.cfg.Skew).Before(a.expiry)
}

// RevokeAccess ends one access token, as an administrator would after an incident. The login
// stays.
func (s *Server) RevokeAccess(token string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if a := s.access[token]; a != nil {
		a.revoked = true
	}
}

// RevokeFamily ends the login that the access or refresh token belongs to, with
// all its tokens.
func (s *Server) RevokeFamily(token string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if r := s.refresh[token]; r != nil {
		s.revoke(r.login)
	} else if a := s.access[token]; a != nil {
		s.revoke(a.login)
	}
}
