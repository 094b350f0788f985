package endpoint

import (
	"encoding/base64"
	"encoding/hex"
	"net/url"
	"strconv"
	"strings"
	"unicode"

	"github.com/stayauth/stayauth/transport/internal/neterror"
)

const (
	// minSecret is the length in bytes from which the value of an unknown parameter counts
	// as a secret. A description may well repeat a shorter one.
	minSecret = 16

	// minShown is how many consecutive letters and digits of a secret must not be shown,
	// and minSpaced how many if there may be white space between them, as there is between
	// words.
	minShown, minSpaced = 8, 12
)

// shows reports whether text holds a secret of the request or of the answer, or a part of one,
// in a form in which servers and proxies repeat what they were sent: truncated, in other case,
// split, percent-encoded, in base64 (as in an Authorization header) or in hexadecimal.
func (a *answer) shows(text string) bool {
	m := a.members
	secrets := append([]string{m.text("access_token"), m.text("refresh_token"), m.text("id_token")}, a.sent...)
	texts := []string{text, unescape(text)}
	words, spaced := newWindows(minShown), newWindows(minSpaced)
	for _, t := range texts {
		spaced.add(lettersOf(t))
		for _, word := range strings.Fields(t) {
			words.add(lettersOf(word))
		}
	}
	for _, secret := range secrets {
		if secret == "" {
			continue
		}
		if texts := strings.Join(texts, "\n"); strings.Contains(texts, secret) || strings.Contains(texts, url.QueryEscape(secret)) {
			return true
		}
		for _, form := range formsOf(secret) {
			if words.meet(form) || spaced.meet(form) {
				return true
			}
		}
		if form := lettersOf(secret); len(form) >= minShown/2 && len(form) < minShown && strings.Contains(lettersOf(text), form) {
			return true // all of a short one
		}
	}
	return false
}

// windows are all parts of a text that have a certain length. A token may have thousands of
// bytes, and many logins may be refused at the same time, so nearly all comparisons are decided
// by the first three bytes.
type windows struct {
	length int
	parts  map[string]bool
	begin  [1 << 15]bool
}

func newWindows(length int) *windows { return &windows{length: length, parts: make(map[string]bool)} }

func (w *windows) add(text string) {
	for i := 0; i+w.length <= len(text); i++ {
		w.parts[text[i:i+w.length]] = true
		w.begin[beginning(text[i:])] = true
	}
}

// meet reports whether text contains one of the parts.
func (w *windows) meet(text string) bool {
	for i := 0; i+w.length <= len(text); i++ {
		if w.begin[beginning(text[i:])] && w.parts[text[i:i+w.length]] {
			return true
		}
	}
	return false
}

// beginning returns a hash of the first three letters or digits.
func beginning(text string) int {
	return int(text[0]&31)<<10 | int(text[1]&31)<<5 | int(text[2]&31)
}

// formsOf returns the letters and digits of a secret, as it is and encoded.
func formsOf(secret string) []string {
	forms := []string{lettersOf(secret), hex.EncodeToString([]byte(secret))}
	encodings := []string{secret}
	if escaped := url.QueryEscape(secret); escaped != secret { // as in an Authorization header
		encodings = append(encodings, escaped)
	}
	for _, s := range encodings {
		for before := range 3 { // What precedes the secret decides how its bits are split.
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

// cause returns what can be said about a connection error without revealing a secret.
func (a *answer) cause(err error) error {
	told := neterror.Safe(err)
	if a.shows(told.Error()) {
		return neterror.TypeOf(told)
	}
	return told
}
