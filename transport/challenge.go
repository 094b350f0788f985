package transport

import (
	"cmp"
	"encoding/base64"
	"encoding/json"
	"net/http"
	"slices"
	"strconv"
	"strings"

	"github.com/stayauth/stayauth/transport/internal/claims"
	"github.com/stayauth/stayauth/transport/internal/text"
)

// A Challenge is one challenge of a WWW-Authenticate header (RFC 9110 section 11.6.1): what an
// API wants from the client before it answers. It is an error, so that a program can return it:
// a 403 with insufficient_scope needs a login with more scopes (RFC 6750 section 3.1), a 401
// with insufficient_user_authentication needs one with the acr_values and max_age that it names
// (RFC 9470). No refresh cures these: until there is a new login, the API gives the same answer
// to every request with the token. Package login requests what a challenge demands, and of the
// challenges of an answer what the first of them does that a login may satisfy:
//
//	for _, c := range transport.ParseChallenges(resp.Header) {
//		cfg.Cause = errors.Join(cfg.Cause, c) // cfg is a login.Config
//	}
//
// A 401 with claims (Microsoft Entra) may be cured by a refresh that asks for them. A Transport
// tries that once. If the provider insists on the user, the error is an ErrLoginRequired with
// Claims, and may be the Cause of a login too.
type Challenge struct {
	Scheme string            // in lower case: "bearer", "dpop", "basic"
	Params map[string]string // names in lower case; of a repeated one, the first
}

// Error says what is asked for, in one line. It leaves out the error_description, which may
// hold anything, even the token.
func (c Challenge) Error() string {
	var b strings.Builder
	b.WriteString("stayauth: " + c.Scheme + " challenge")
	for _, name := range []string{"error", "scope", "acr_values", "max_age"} {
		value := c.Params[name]
		if name == "error" && strings.Trim(value, codeBytes) != "" {
			value = "" // no code, as RFC 6750 section 3.1 has them
		}
		if value != "" {
			b.WriteString(", " + name + "=" + strconv.Quote(text.Clean(value)))
		}
	}
	return b.String()
}

// codeBytes are the bytes that error codes consist of.
const codeBytes = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ_-. "

// Claims returns the claims that the challenge asks for, as the JSON object that the
// parameter "claims" of an authorization request takes (OpenID Connect Core section
// 5.5), or "" if there are none that can be read. Microsoft Entra sends them with
// insufficient_claims, encoded in base64.
func (c Challenge) Claims() string {
	encoded := strings.NewReplacer("+", "-", "/", "_", "=", "").Replace(c.Params["claims"])
	data, err := base64.RawURLEncoding.DecodeString(encoded)
	var object map[string]json.RawMessage
	if err != nil || json.Unmarshal(data, &object) != nil || object == nil {
		return ""
	}
	return string(data)
}

// ParseChallenges returns the challenges in the WWW-Authenticate headers of h, in their order.
// It makes the best of malformed headers, and leaves out the opaque data that schemes such as
// Negotiate send in place of parameters.
func ParseChallenges(h http.Header) []Challenge {
	var all []Challenge
	for _, value := range h.Values("WWW-Authenticate") {
		all = appendChallenges(all, value)
	}
	return all
}

// appendChallenges parses one header. A comma separates challenges as well as parameters; a
// name that is followed by "=" belongs to a parameter, and any other is the scheme of a new
// challenge.
func appendChallenges(all []Challenge, s string) []Challenge {
	open := false // whether this header has had a challenge, which takes the parameters
	for {
		s = strings.TrimLeft(s, " \t,")
		if s == "" {
			return all
		}
		name, rest := cutToken(s)
		if name == "" && s[0] == '"' {
			var value string
			if value, s = cutValue(s); open {
				all[len(all)-1].setUnnamed(value)
			}
			continue
		}
		if name == "" {
			s = s[1:] // neither a scheme nor a parameter
			continue
		}
		if after := strings.TrimLeft(rest, " \t"); strings.HasPrefix(after, "=") {
			var value string
			value, s = cutValue(strings.TrimLeft(after[1:], " \t"))
			if name = strings.ToLower(name); open {
				if params := all[len(all)-1].Params; !has(params, name) {
					params[name] = value
				}
			}
			continue
		}
		all = append(all, Challenge{Scheme: strings.ToLower(name), Params: map[string]string{}})
		open = true
		s = skipToken68(rest)
	}
}

func has(m map[string]string, name string) bool {
	_, ok := m[name]
	return ok
}

// cutToken cuts a token (RFC 9110 section 5.6.2) off the front of s.
func cutToken(s string) (token, rest string) {
	i := 0
	for i < len(s) && isTokenByte(s[i]) {
		i++
	}
	return s[:i], s[i:]
}

func isAlnum(c byte) bool {
	return '0' <= c && c <= '9' || 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z'
}

func isTokenByte(c byte) bool { return isAlnum(c) || strings.IndexByte("!#$%&'*+-.^_`|~", c) >= 0 }

// cutValue cuts a token or quoted string off the front of s. Without a closing quote, the value
// is the whole rest.
func cutValue(s string) (value, rest string) {
	if !strings.HasPrefix(s, `"`) {
		// More bytes than a token may have: servers forget the quotes around URLs.
		i := strings.IndexAny(s, ", \t\"")
		if i < 0 {
			i = len(s)
		}
		return s[:i], s[i:]
	}
	var b strings.Builder
	for i := 1; i < len(s); i++ {
		switch c := s[i]; {
		case c == '"':
			return b.String(), s[i+1:]
		case c == '\\' && i+1 < len(s):
			i++
			b.WriteByte(s[i])
		default:
			b.WriteByte(c)
		}
	}
	return b.String(), ""
}

// skipToken68 skips the opaque data that may follow a scheme (RFC 9110 section
// 11.2): it stands alone between the scheme and the next comma.
func skipToken68(s string) string {
	data := strings.TrimLeft(s, " \t")
	i := 0
	for i < len(data) && (isAlnum(data[i]) || strings.IndexByte("-._~+/", data[i]) >= 0) {
		i++
	}
	rest := strings.TrimLeft(data[i:], "=")
	rest = strings.TrimLeft(rest, " \t")
	if i > 0 && (rest == "" || rest[0] == ',') {
		return rest
	}
	return s
}

// setUnnamed takes a value without a name, such as Facebook sends: OAuth "Facebook Platform"
// "invalid_token" "Error validating access token: ..."
func (c *Challenge) setUnnamed(value string) {
	if c.Scheme != "oauth" {
		return
	}
	for _, name := range []string{"realm", "error", "error_description"} {
		if !has(c.Params, name) {
			c.Params[name] = value
			return
		}
	}
}

// rejects reports whether resp is a rejection that a new access token can cure, and which
// claims the refresh has to ask for. A challenge that says invalid_token means it, whatever the
// status of the error (RFC 6750 section 3.1). A 401 may give any other reason, since servers
// have many words for "expired", or none; but it must not be one that wants something else from
// the client.
func rejects(resp *http.Response) (yes bool, demanded string) {
	if resp.StatusCode < 400 {
		return false, ""
	}
	challenges := ParseChallenges(resp.Header)
	demanded, obstacle := cure(challenges)
	switch {
	case obstacle != nil:
		return false, ""
	case resp.StatusCode == http.StatusUnauthorized:
		return true, demanded
	}
	return slices.ContainsFunc(challenges, func(c Challenge) bool { return c.ofToken() && c.code() == "invalid_token" }), ""
}

// cure returns what a refresh has to ask for, so that an API with these challenges accepts the
// new token: claims, or nothing. If no refresh brings what the API wants, obstacle says what does.
func cure(challenges []Challenge) (demanded string, obstacle *Error) {
	for _, c := range challenges {
		if !c.ofToken() {
			continue
		}
		d := c.demands()
		if d == "" && c.wantsMore() {
			return "", c.obstacle()
		}
		demanded = cmp.Or(demanded, d)
	}
	return demanded, nil
}

// obstacle returns the error of a challenge that wants more than a refresh brings.
func (c Challenge) obstacle() *Error {
	switch c.code() {
	case "invalid_request", "use_dpop_nonce", "invalid_dpop_proof":
		return &Error{Kind: ErrMisconfigured, Op: "reject", Err: c,
			Remedy: "mend the request, or send it through a Transport, which proves that it has the key of the token: another token is of no use"}
	}
	return &Error{Kind: ErrLoginRequired, Op: "reject", Err: c, Claims: c.Claims(),
		Remedy: "log in with what the API demands: no refresh brings that"}
}

// ofToken reports whether the challenge is about an access token. One that a program has made by
// itself may have no scheme, or in upper case.
func (c Challenge) ofToken() bool {
	switch strings.ToLower(c.Scheme) {
	case "bearer", "dpop", "oauth", "":
		return true
	}
	return false
}

// demands returns the claims that a refresh has to ask for, so that the API accepts the new
// token: those of Microsoft's continuous access evaluation, with which an API rejects a token
// before it expires. A challenge that wants the user to do something has none.
func (c Challenge) demands() string {
	switch c.code() {
	case "", "invalid_token", "insufficient_claims":
	default:
		return ""
	}
	demanded, err := claims.Merge(c.Claims(), "")
	if err != nil || len(demanded) > claims.MaxLen || c.Params["acr_values"] != "" || c.Params["max_age"] != "" {
		return ""
	}
	return demanded
}

func (c Challenge) code() string { return strings.ToLower(c.Params["error"]) }

// wantsMore reports whether the challenge wants what no refresh brings: more from the user,
// more scopes, or another request.
func (c Challenge) wantsMore() bool {
	switch c.code() {
	case "insufficient_scope", "invalid_request", // RFC 6750 section 3.1
		"insufficient_user_authentication",     // RFC 9470 section 3
		"insufficient_claims",                  // Microsoft Entra
		"use_dpop_nonce", "invalid_dpop_proof": // RFC 9449 section 7.1 and 9
		return true
	}
	return c.Params["claims"] != "" || c.Params["acr_values"] != "" || c.Params["max_age"] != ""
}
