package oauthtest

import (
	"cmp"
	"crypto/rand"
	"net/http"
	"time"
)

// A device is a device authorization in progress (RFC 8628).
type device struct {
	consent  // of the account that approved, or "" if none has yet
	userCode string
	denied   bool
	expiry   time.Time
	interval time.Duration
	polled   time.Time
}

// serveDevice is the device authorization endpoint (RFC 8628 section 3.1).
func (s *Server) serveDevice(w http.ResponseWriter, r *http.Request) {
	s.offerNonce(w, &s.tokenNonces)
	f, e := s.authenticate(r)
	asked := consentTo(f)
	asked.nonce, asked.scope = "", cmp.Or(asked.scope, s.cfg.Scope)
	if e == nil && !covers(s.cfg.Scope, asked.scope) {
		e = &oauthError{400, "invalid_scope", "more than the client may have"}
	}
	if e != nil {
		e.write(w)
		return
	}
	text := rand.Text()
	d := &device{userCode: text[:4] + "-" + text[4:8], consent: asked, expiry: time.Now().Add(10 * time.Minute), interval: 5 * time.Second}
	s.mu.Lock()
	token := s.secret("dc-")
	s.devices[token] = d
	s.mu.Unlock()
	page := origin(r) + "/device"
	noStore(w)
	writeJSON(w, http.StatusOK, map[string]any{
		"device_code": token, "user_code": d.userCode, "expires_in": 600, "interval": 5,
		"verification_uri": page, "verification_uri_complete": page + "?user_code=" + d.userCode,
	})
}

// poll is RFC 8628 section 3.5. s.mu is held.
func (s *Server) poll(token, issuer string) (Tokens, *oauthError) {
	d, now := s.devices[token], time.Now()
	switch {
	case d == nil:
		return Tokens{}, s.invalidGrant("unknown device code")
	case !now.Before(d.expiry):
		return Tokens{}, &oauthError{400, "expired_token", "the device code has expired"}
	case d.denied:
		return Tokens{}, &oauthError{400, "access_denied", "the user said no"}
	case !d.polled.IsZero() && now.Sub(d.polled) < d.interval:
		d.polled = now
		d.interval += 5 * time.Second
		return Tokens{}, &oauthError{400, "slow_down", "wait five seconds more from now on"}
	case d.account == "":
		d.polled = now
		return Tokens{}, &oauthError{400, "authorization_pending", "the user has not answered yet"}
	}
	delete(s.devices, token)
	return s.login(d.consent, issuer), nil
}

// ApproveDevice plays the user who enters the code of a device and consents, as the account. It
// returns false if there is no such code.
func (s *Server) ApproveDevice(userCode, account string) bool {
	return s.answerDevice(userCode, func(d *device) { d.account = account })
}

// DenyDevice plays the user who enters the code of a device and refuses.
func (s *Server) DenyDevice(userCode string) bool {
	return s.answerDevice(userCode, func(d *device) { d.denied = true })
}

func (s *Server) answerDevice(userCode string, answer func(*device)) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, d := range s.devices {
		if d.userCode == userCode && time.Now().Before(d.expiry) {
			answer(d)
			return true
		}
	}
	return false
}
