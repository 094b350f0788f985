package transport_test

import (
	"bufio"
	"bytes"
	"cmp"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/stayauth/stayauth/transport"
	"github.com/stayauth/stayauth/transport/internal/testkit"
)

// TestChallenges parses the answers in testdata/challenges. meaning.txt says what
// they are, and which of them a refresh cures (C16, C17).
func TestChallenges(t *testing.T) {
	testkit.Meanings(t, "../testdata/challenges", func(t *testing.T, wire []byte) string {
		resp, err := http.ReadResponse(bufio.NewReader(bytes.NewReader(wire)), nil)
		if err != nil {
			t.Fatal(err)
		}
		var all []string
		for _, c := range transport.ParseChallenges(resp.Header) {
			text := c.Scheme
			for _, name := range slices.Sorted(maps.Keys(c.Params)) {
				text += fmt.Sprintf(" %s=%q", name, c.Params[name])
			}
			all = append(all, text)
		}
		cure := "no refresh"
		if yes, claims := transport.Rejects(resp); claims != "" {
			cure = "refresh with the claims"
		} else if yes {
			cure = "refresh"
		}
		return cure + " | " + cmp.Or(strings.Join(all, " | "), "no challenge")
	})
}

// TestChallengeIsAnError: a program can return what an API asks for, such as the
// scope that it wants (C16).
func TestChallengeIsAnError(t *testing.T) {
	h := http.Header{"Www-Authenticate": {"Bearer error=\"insufficient_scope\", scope=\"calendar.read\x01\", realm=\"r\""}}
	var err error = transport.ParseChallenges(h)[0]
	if got, want := err.Error(), `stayauth: bearer challenge, error="insufficient_scope", scope="calendar.read"`; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

// An API that repeats the token in its challenge does not get it into a log.
func TestAChallengeThatRepeatsTheToken(t *testing.T) {
	const token = "eyJhbGciOiJSUzI1NiJ9.e30.c2ln0"
	h := http.Header{"Www-Authenticate": {`Bearer error="` + token + `", error_description="the token ` + token + ` has expired", token="` + token + `"`}}
	if got := transport.ParseChallenges(h)[0].Error(); strings.Contains(got, token) {
		t.Error("Error repeats the token")
	}
}

// Claims come in every kind of base64 (C45, C102).
func TestClaims(t *testing.T) {
	const object = `{"access_token":{"nbf":{"essential":true,"value":"1~~~???"}}}`
	std := base64.StdEncoding.EncodeToString([]byte(object))
	if !strings.ContainsAny(std, "+/") || !strings.HasSuffix(std, "=") {
		t.Fatal("the encodings do not differ")
	}
	for _, tt := range []struct{ claims, want string }{
		{std, object},
		{base64.RawStdEncoding.EncodeToString([]byte(object)), object},
		{base64.URLEncoding.EncodeToString([]byte(object)), object},
		{base64.RawURLEncoding.EncodeToString([]byte(object)), object},
		{"e30=", "{}"},
		{"", ""},
		{"bnVsbA==", ""},    // null
		{"W10=", ""},        // []
		{"ImEi", ""},        // "a"
		{"e30ge30=", ""},    // {} {}
		{"e", ""},           // cut
		{"{}", ""},          // not encoded
		{"eyJhIjp9", ""},    // {"a":}
		{"e30=\x00e30", ""}, // not base64
	} {
		if got := (transport.Challenge{Params: map[string]string{"claims": tt.claims}}).Claims(); got != tt.want {
			t.Errorf("%q: got %q, want %q", tt.claims, got, tt.want)
		}
	}
	if got := (transport.Challenge{}).Claims(); got != "" {
		t.Errorf("a challenge without any parameters: %q", got)
	}
}

func FuzzClaims(f *testing.F) {
	for _, s := range []string{"e30=", "eyJhIjp7fX0", "{}"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if got := (transport.Challenge{Params: map[string]string{"claims": s}}).Claims(); got != "" {
			var object map[string]any
			if err := json.Unmarshal([]byte(got), &object); err != nil {
				t.Errorf("%q: %v", got, err)
			}
		}
	})
}

func FuzzParseChallenges(f *testing.F) {
	f.Add(`Bearer realm="a, b", error="invalid_token", Basic`, "Negotiate YWJj==")
	f.Add(`OAuth "Facebook Platform" "invalid_token"`, `a=b, c="\`)
	f.Fuzz(func(t *testing.T, a, b string) {
		h := http.Header{"Www-Authenticate": {a, b}}
		all := transport.ParseChallenges(h)
		for _, c := range all {
			if c.Scheme == "" || c.Scheme != strings.ToLower(c.Scheme) || c.Params == nil {
				t.Errorf("odd challenge %#v", c)
			}
			if strings.ContainsAny(c.Error(), "\r\n\x00") {
				t.Errorf("Error has control characters: %q", c.Error())
			}
		}
		transport.Rejects(&http.Response{StatusCode: 401, Header: h})

		// One header is parsed without regard to the others, and what was parsed can be
		// written in good form and is then parsed as the same.
		var good []string
		for _, c := range transport.ParseChallenges(http.Header{"Www-Authenticate": {a}}) {
			s := c.Scheme
			for i, name := range slices.Sorted(maps.Keys(c.Params)) {
				s += []string{" ", ", "}[min(i, 1)] + name + `="` + strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(c.Params[name]) + `"`
			}
			good = append(good, s)
		}
		again := transport.ParseChallenges(http.Header{"Www-Authenticate": {strings.Join(good, ", "), b}})
		if !slices.EqualFunc(all, again, func(x, y transport.Challenge) bool { return x.Scheme == y.Scheme && maps.Equal(x.Params, y.Params) }) {
			t.Errorf("%q, %q:\n%#v\n%#v", a, b, all, again)
		}
	})
}
