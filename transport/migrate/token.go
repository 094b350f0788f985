package migrate

import (
	"cmp"
	"encoding/json"
	"errors"
	"net/url"
	"strings"
	"time"

	"github.com/stayauth/stayauth/tokencache"
)

// parseToken reads what json.Marshal makes of an oauth2.Token, or what others make of theirs. The
// expiry of an access token that has one must be known: it is not if only expires_in says it. Then
// the refresh token brings another.
func parseToken(data []byte) (Login, error) {
	var t struct {
		AccessToken  tokencache.Secret `json:"access_token"`
		TokenType    string            `json:"token_type"`
		RefreshToken tokencache.Secret `json:"refresh_token"`
		IDToken      tokencache.Secret `json:"id_token"`
	}
	var also map[string]json.RawMessage // Whatever else it is, it is not worth a new login.
	if json.Unmarshal(data, &t) != nil || json.Unmarshal(data, &also) != nil {
		return Login{}, errors.New("its tokens are no strings")
	}
	text := func(name string) (s string) {
		json.Unmarshal(also[name], &s)
		return s
	}
	rec := &tokencache.Record{TokenURL: cmp.Or(text("token_uri"), text("token_url")), AccessToken: t.AccessToken,
		TokenType: t.TokenType, RefreshToken: t.RefreshToken, IDToken: t.IDToken, Scope: text("scope")}
	if rec.AccessToken == "" && rec.TokenURL != "" {
		rec.AccessToken = tokencache.Secret(text("token"))
	}
	var scopes []string
	if json.Unmarshal(also["scopes"], &scopes) == nil && rec.Scope == "" {
		rec.Scope = strings.Join(scopes, " ")
	}
	known := true
	for _, name := range []string{"expiry", "expires_at", "expiry_date"} {
		if also[name] != nil && rec.Expiry.IsZero() {
			rec.Expiry, known = moment(also[name])
		}
	}
	if rec.Expiry.IsZero() && also["expires_in"] != nil {
		known = false
	}
	if !known && rec.RefreshToken != "" || !sendable(rec.AccessToken) {
		rec.AccessToken, rec.Expiry = "", time.Time{}
	}
	if rec.AccessToken == "" && rec.RefreshToken == "" {
		return Login{}, errors.New("it has neither an access token nor a refresh token")
	}
	return Login{Issuer: text("issuer"), ClientID: text("client_id"), ClientSecret: tokencache.Secret(text("client_secret")), Tokens: rec}, nil
}

// moment reads a time, or the seconds or milliseconds since 1970.
func moment(data []byte) (t time.Time, ok bool) {
	if json.Unmarshal(data, &t) == nil {
		return t, true
	}
	var since float64
	if json.Unmarshal(data, &since) != nil || since < 0 || since > 1e14 {
		return time.Time{}, false
	}
	const latest = 1e11 // seconds: more of them are milliseconds
	if since > latest {
		return time.UnixMilli(int64(since)), true
	}
	return time.Unix(int64(since), 0), true
}

// sendable reports whether a header can hold the token.
func sendable(token tokencache.Secret) bool {
	return !strings.ContainsFunc(string(token), func(c rune) bool { return c < ' ' || c == 0x7f })
}

// sameServer reports whether a token endpoint may be another name of one at the same server: a path
// may have changed since, and Google has had several hosts.
func sameServer(one, other string) bool {
	return one == "" || other == "" || serverOf(one) == serverOf(other)
}

func serverOf(endpoint string) string {
	u, err := url.Parse(endpoint)
	if err != nil {
		return endpoint
	}
	switch host := strings.ToLower(u.Host); host {
	case "accounts.google.com", "www.googleapis.com":
		return "oauth2.googleapis.com"
	default:
		return host
	}
}
