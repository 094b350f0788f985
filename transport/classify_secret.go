package transport

import (
	"encoding/base64"
	"encoding/hex"
	"net/url"
	"strconv"
	"strings"
	"unicode"
)

// secrets returns what is sent and must not be shown: every parameter but those that are
// known to hold none, because grants that this package does not know have secrets too.
func (e *Endpoint) secrets(form url.Values) []string {
	secrets := []string{string(e.ClientSecret)}
	for name, values := range form {
		switch name {
		case "refresh_token", "code", "code_verifier", "token", "client_secret", e.ExchangeGrant:
			secrets = append(secrets, values...)
		case "grant_type", "client_id", "scope", "redirect_uri", "resource", "audience", "response_type", "token_type_hint",
			"code_challenge", "code_challenge_method", "client_assertion_type",
			"requested_token_type", "subject_token_type", "actor_token_type":
		default:
			for _, v := range values {
				if len(v) >= minSecret {
					secrets = append(secrets, v)
				}
			}
		}
	}
	return secrets
}

const (
	// minSecret is the length in bytes of the shortest value of an unknown parameter that
	// can be a secret. A description may well repeat a shorter one.
	minSecret = 16

	// minShown is how many letters and digits of a secret in a row must not be shown, and
	// minSpaced how many if they may have white space between them, which words have too.
	minShown, minSpaced = 8, 12
)

// shows reports whether text holds a secret of the request or of the answer, or a part of
// one, in a form in which servers and proxies repeat what they were sent: cut, in the
// other case, split, percent-encoded, in base64 (as in an Authorization header) or in
// hexadecimal.
func (a *answer) shows(text string) bool {
	m := a.members
	secrets := append([]string{m.text("access_token"), m.text("refresh_token"), m.text("id_token")}, a.sent...)
	plain := unescape(text)
	for _, secret := range secrets {
		if secret == "" {
			continue
		}
		if strings.Contains(text, secret) || strings.Contains(plain, secret) || strings.Contains(text, url.QueryEscape(secret)) {
			return true
		}
		for _, form := range formsOf(secret) {
			for _, shown := range []string{text, plain} {
				if overlap(strings.Fields(shown), form, minShown) || overlap([]string{shown}, form, minSpaced) {
					return true
				}
			}
		}
	}
	return false
}

// overlap reports whether one of the texts has that many letters and digits in a row that
// secret has too, or all of a shorter secret.
func overlap(texts []string, secret string, most int) bool {
	if len(secret) < minShown/2 {
		return false
	}
	most = min(most, len(secret))
	for _, text := range texts {
		text = lettersOf(text)
		for i := 0; i+most <= len(text); i++ {
			if strings.Contains(secret, text[i:i+most]) {
				return true
			}
		}
	}
	return false
}

// formsOf returns the letters and digits of a secret, as it is and encoded.
func formsOf(secret string) []string {
	forms := []string{lettersOf(secret), hex.EncodeToString([]byte(secret))}
	for _, s := range []string{secret, url.QueryEscape(secret)} {
		for before := range 3 { // What stands before the secret decides how its bits are split.
			encoded := base64.RawStdEncoding.EncodeToString([]byte("\x00\x00"[:before] + s))
			if encoded = encoded[(before*8+5)/6 : len(encoded)-1]; len(encoded) >= minShown {
				forms = append(forms, lettersOf(encoded))
			}
		}
	}
	return forms
}

// lettersOf returns the letters and digits of text, in one case.
func lettersOf(text string) string {
	return strings.Map(func(c rune) rune {
		if !unicode.IsLetter(c) && !unicode.IsDigit(c) {
			return -1
		}
		return unicode.ToLower(c)
	}, text)
}

// unescape decodes what is percent-encoded in text, and leaves the rest.
func unescape(text string) string {
	var b strings.Builder
	for i := 0; i < len(text); i++ {
		if text[i] == '%' && i+3 <= len(text) {
			if c, err := strconv.ParseUint(text[i+1:i+3], 16, 8); err == nil {
				b.WriteByte(byte(c))
				i += 2
				continue
			}
		}
		b.WriteByte(text[i])
	}
	return b.String()
}
