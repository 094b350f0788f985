package transport

import (
	"bytes"
	"encoding/json"
	"strconv"
	"strings"
	"time"

	"github.com/stayauth/stayauth/tokencache"
)

// record returns the tokens in the answer. If it returns a record besides an
// error, then the record has no access token, because that cannot be used, and
// the refresh token in it must be kept all the same.
func (a *answer) record() (*tokencache.Record, error) {
	m := a.members
	access, refresh := m.text("access_token"), m.text("refresh_token")
	if code, _ := m.oauthError(); a.status/100 != 2 || access == "" && (refresh == "" || code != "") {
		return nil, a.failure()
	}
	rec := &tokencache.Record{
		AccessToken:   tokencache.Secret(access),
		TokenType:     m.text("token_type"),
		RefreshToken:  tokencache.Secret(refresh),
		IDToken:       tokencache.Secret(m.text("id_token")),
		Scope:         m.scope(),
		ObtainedAt:    a.at,
		Expiry:        a.after("expires_in", "expires"),
		RefreshAt:     a.after("refresh_in"),
		RefreshExpiry: a.after("refresh_token_expires_in", "refresh_expires_in"),
		Extra:         m.extra(),
	}
	switch strings.ToLower(rec.TokenType) {
	case "bearer":
	case "", "bot", "user": // Slack calls its bearer tokens by their owner.
		rec.TokenType = "Bearer"
	default:
		return a.withoutAccess(rec, &Error{Kind: ErrMisconfigured,
			Remedy: "register the client for bearer tokens: the provider sent one of type " + strconv.Quote(a.clean(rec.TokenType))})
	}
	if access == "" {
		return a.withoutAccess(rec, a.failure())
	}
	if strings.ContainsFunc(access, func(c rune) bool { return c < ' ' || c == 0x7f }) {
		return a.withoutAccess(rec, &Error{Kind: ErrAmbiguous, Remedy: "the access token has characters that no header can carry"})
	}
	return rec, nil
}

// withoutAccess returns what is left of rec if its access token is of no use.
func (a *answer) withoutAccess(rec *tokencache.Record, err *Error) (*tokencache.Record, error) {
	err.Op, err.Status = a.op, a.status
	if rec.RefreshToken == "" {
		return nil, err
	}
	rec.AccessToken, rec.Expiry, rec.RefreshAt = "", time.Time{}, time.Time{}
	return rec, err
}

// longestLife is how long a token may claim to live. Nothing lives that long; a
// larger number is a mistake, and times far in the future overflow.
const longestLife = 10 * 365 * 24 * time.Hour

// after returns the time that lies as many seconds after the request as the first
// usable one of the members says. Counting from the request and not from the
// answer errs on the safe side. The zero Time means unknown: nothing that these
// members hold is a reason to lose the tokens beside them.
func (a *answer) after(names ...string) time.Time {
	for _, name := range names {
		seconds, err := strconv.ParseFloat(strings.TrimSpace(a.members.text(name)), 64)
		if err != nil || !(seconds > 0) {
			continue
		}
		life := longestLife
		if seconds < longestLife.Seconds() {
			life = time.Duration(seconds * float64(time.Second))
		}
		return a.sentAt.Add(life)
	}
	return time.Time{}
}

// maxExtra is the length in bytes of the longest member that is kept in
// Record.Extra: a record has to fit into any Store.
const maxExtra = 8 << 10

// extra returns the members that have no field of their own.
func (m members) extra() map[string]tokencache.Secret {
	extra := map[string]tokencache.Secret{}
	for name, raw := range m {
		switch name {
		case "access_token", "token_type", "refresh_token", "id_token", "scope",
			"expires_in", "expires", "refresh_in", "refresh_token_expires_in", "refresh_expires_in",
			"ok", "error":
			continue
		}
		value := m.text(name)
		if value == "" {
			var compact bytes.Buffer
			json.Compact(&compact, raw) // It is a part of valid JSON.
			value = compact.String()
		}
		if value != "null" && value != `""` && len(value) <= maxExtra {
			extra[name] = tokencache.Secret(value)
		}
	}
	if len(extra) == 0 {
		return nil
	}
	return extra
}
