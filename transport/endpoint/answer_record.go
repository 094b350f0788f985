package endpoint

import (
	"bytes"
	"cmp"
	"encoding/json"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/stayauth/stayauth/tokencache"
	"github.com/stayauth/stayauth/transport"
	"github.com/stayauth/stayauth/transport/internal/bearer"
)

// record returns the tokens in the answer. If it returns both a record and an error, the record
// has no access token, because that cannot be used, and its refresh token must be kept all the
// same.
func (a *answer) record() (*tokencache.Record, error) {
	m := a.members
	access, refresh := m.token("access_token"), m.token("refresh_token")
	if code, _ := a.oauthError(); a.status/100 != 2 || access == "" && (refresh == "" || code != "") {
		return nil, a.failure()
	}
	rec := &tokencache.Record{
		AccessToken:   tokencache.Secret(access),
		TokenType:     m.token("token_type"),
		RefreshToken:  tokencache.Secret(refresh),
		IDToken:       tokencache.Secret(m.token("id_token")),
		Scope:         m.scope(),
		ObtainedAt:    a.at,
		Expiry:        a.expiry("expires_in_sec", "expires_in", "expires", "expires_at", "expires_on"),
		RefreshAt:     a.expiry("refresh_in"),
		RefreshExpiry: a.expiry("refresh_token_expires_in", "refresh_expires_in", "x_refresh_token_expires_in", "refresh_token_expires_at"),
		Extra:         m.extra(),
	}
	remedy := bearer.Normalize(&rec.TokenType, a.bound)
	if a.other && strings.EqualFold(rec.TokenType, "N_A") || a.bound && access == "" {
		remedy = ""
	}
	if remedy != "" {
		return a.withoutAccess(rec, &transport.Error{Kind: transport.ErrMisconfigured, Remedy: remedy})
	}
	if access == "" {
		return a.withoutAccess(rec, a.failure())
	}
	if !sendable(rec.AccessToken) {
		return a.withoutAccess(rec, &transport.Error{Kind: transport.ErrAmbiguous, Remedy: "the access token has characters that no header can carry"})
	}
	return rec, nil
}

// withoutAccess returns what is left of rec if its access token is of no use.
func (a *answer) withoutAccess(rec *tokencache.Record, err *transport.Error) (*tokencache.Record, error) {
	err.Op, err.Status = a.op, a.status
	if rec.RefreshToken == "" {
		return nil, err
	}
	rec.AccessToken, rec.Expiry, rec.RefreshAt = "", time.Time{}, time.Time{}
	return rec, err
}

// sendable reports whether the token can be sent in a header.
func sendable(token tokencache.Secret) bool {
	return !strings.ContainsFunc(string(token), func(c rune) bool { return c < ' ' || c == 0x7f })
}

// A record must fit into any Store.
const (
	maxExtra    = 8 << 10  // the size in bytes of the largest member that is kept in Record.Extra
	maxAllExtra = 32 << 10 // and of all of them, with their names
)

// extra returns the members that have no field of their own; if they are too large together,
// the shortest of them.
func (m members) extra() map[string]tokencache.Secret {
	values := map[string]string{}
	for name, raw := range m {
		switch name {
		case "access_token", "token_type", "refresh_token", "id_token", "scope",
			"expires_in", "expires_in_sec", "expires", "refresh_in", "refresh_token_expires_in", "refresh_expires_in",
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
			values[name] = value
		}
	}
	length := func(name string) int { return len(name) + len(values[name]) }
	names := slices.SortedFunc(maps.Keys(values), func(a, b string) int {
		return cmp.Or(cmp.Compare(length(a), length(b)), cmp.Compare(a, b))
	})
	var extra map[string]tokencache.Secret
	left := maxAllExtra
	for _, name := range names {
		if left -= length(name); left < 0 {
			break
		}
		if extra == nil {
			extra = make(map[string]tokencache.Secret)
		}
		extra[name] = tokencache.Secret(values[name])
	}
	return extra
}
