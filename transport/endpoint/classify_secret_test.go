package endpoint

import (
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"regexp"
	"strings"
	"testing"

	"github.com/stayauth/stayauth/transport"
	"github.com/stayauth/stayauth/transport/internal/testkit"
)

// TestEchoedSecrets: providers repeat what they were sent, and errors must not.
func TestEchoedSecrets(t *testing.T) {
	for _, body := range []string{
		`{"error":"invalid_grant","error_description":"S/ECRET"}`,
		`{"error":"invalid_grant","error_description":"the token S/E\u0000CRET is unknown"}`,
		`{"error":"invalid_grant","error_description":"you sent token=S%2FECRET"}`,
		`{"error":"S/ECRET"}`,
		`{"error":{"message":"S/ECRET","type":"S/ECRET","code":1}}`,
		`{"error":"invalid_grant","error_subtype":"S/ECRET"}`,
		`{"access_token":"a","token_type":"S/ECRET"}`,
		`{"access_token":"NEWSECRET","token_type":"NEWSECRET"}`,
		`{"access_token":"NEWSECRET","refresh_token":"NEWSECRET\n","error":"NEWSECRET"}`,
		`{"refresh_token":"NEWSECRET","error":"NEWSECRET","error_description":"NEWSECRET"}`,
		`S/ECRET`,
	} {
		for _, status := range []int{200, 307, 400, 401, 503} {
			rec := testRecord()
			rec.RefreshToken = "S/ECRET"
			_, err := testEndpoint(testkit.Respond(status, body)).Refresh(t.Context(), rec)
			if err != nil {
				mustNotShow(t, err, "ECRET")
			}
		}
	}
}

// TestPartsOfSecrets: what a provider or proxy repeats may be cut, recoded or split.
func TestPartsOfSecrets(t *testing.T) {
	const secret = "rt-QzW8pL0vN3/xK7+mR2sT5uY9aB4cD6eF1"
	basic := base64.StdEncoding.EncodeToString([]byte("client:" + url.QueryEscape(secret)))
	for name, form := range map[string]string{
		"whole":               secret,
		"quoted":              `"` + secret + `"`,
		"cut":                 secret[:14] + "\u2026",
		"cut short":           secret[:11] + "...",
		"its end":             "..." + secret[len(secret)-12:],
		"its middle":          "..." + secret[8:22] + "...",
		"beginning and end":   secret[:12] + "***" + secret[len(secret)-4:],
		"upper case":          strings.ToUpper(secret),
		"lower case":          strings.ToLower(secret),
		"in groups":           "rt-Q zW8p L0vN 3/xK 7+mR 2sT5 uY9a B4cD 6eF1",
		"in two lines":        secret[:15] + "\n" + secret[15:],
		"with line ends":      strings.Join(strings.Split(secret, ""), "\n"),
		"escaped":             url.QueryEscape(secret),
		"escaped, lower case": strings.ToLower(url.QueryEscape(secret)),
		"escaped twice":       url.QueryEscape(url.QueryEscape(secret)),
		"every byte escaped":  "%" + strings.Join(regexp.MustCompile("..").FindAllString(hex.EncodeToString([]byte(secret)), -1), "%"),
		"base64":              base64.StdEncoding.EncodeToString([]byte(secret)),
		"base64url":           base64.RawURLEncoding.EncodeToString([]byte(secret)),
		"base64, cut":         base64.StdEncoding.EncodeToString([]byte(secret))[:20],
		"base64 of a pair":    base64.StdEncoding.EncodeToString([]byte("x" + secret)),
		"base64 of a form":    base64.StdEncoding.EncodeToString([]byte("ab" + secret + "&grant_type=refresh_token")),
		"Authorization":       "Basic " + basic,
		"hexadecimal":         hex.EncodeToString([]byte(secret)),
		"hexadecimal, upper":  strings.ToUpper(hex.EncodeToString([]byte(secret))),
		"in other text":       "token=" + secret + "&client_id=client",
		"far behind":          strings.Repeat("long ", 30) + secret[:20],
	} {
		for _, member := range []string{"error", "error_description", "error_uri", "error_subtype", "message"} {
			text, err := json.Marshal("the token " + form + " is bad")
			if member == "error_uri" {
				text, err = json.Marshal("https://login.example.com/errors?q=" + url.QueryEscape(form))
			}
			if err != nil {
				t.Fatal(err)
			}
			rec := testRecord()
			rec.RefreshToken = secret
			_, err = testEndpoint(testkit.Respond(400, fmt.Sprintf(`{%q:%s}`, member, text))).Refresh(t.Context(), rec)
			e, ok := errors.AsType[*transport.Error](err)
			if !ok || e.Code+e.Description+e.URI != "" {
				t.Errorf("%s in %s: got %v", name, member, err)
			}
		}
	}
	// What is no part of it is shown.
	rec := testRecord()
	rec.RefreshToken = secret
	for _, text := range []string{"Refresh token is expired", "Trace ID: 11111111-2222-3333-4444-555555555555", "rt-Q is bad", "100% sure"} {
		_, err := testEndpoint(testkit.Respond(400, fmt.Sprintf(`{"error":"invalid_grant","error_description":%q}`, text))).Refresh(t.Context(), rec)
		if e, ok := errors.AsType[*transport.Error](err); !ok || e.Description != text {
			t.Errorf("%q: got %v", text, err)
		}
	}
}

// mustNotShow fails if an error shows the secret in any of the usual ways.
func mustNotShow(t *testing.T, err error, secret string) {
	t.Helper()
	var out strings.Builder
	fmt.Fprintf(&out, "%v %+v %#v %q", err, err, err, err)
	json.NewEncoder(&out).Encode(err)
	slog.New(slog.NewTextHandler(&out, nil)).Info("", "err", err)
	slog.New(slog.NewJSONHandler(&out, nil)).Info("", "err", err)
	if strings.Contains(out.String(), secret) {
		t.Errorf("%q is in %s", secret, out.String())
	}
}

// FuzzClean: whatever stands around a secret, and however it is written there, it is not
// shown.
func FuzzClean(f *testing.F) {
	f.Add("the token ", "rt-QzW8pL0vN3", " is bad")
	f.Add("%", "%41%zz", "%4")
	f.Add("", "ä", "")
	f.Fuzz(func(t *testing.T, before, secret, after string) {
		a := &answer{sent: []string{secret}}
		for _, form := range []string{secret, url.QueryEscape(secret), strings.ToUpper(secret), base64.StdEncoding.EncodeToString([]byte(secret))} {
			got := a.clean(before + form + after)
			if len(got) > 200 || secret != "" && strings.Contains(got, secret) {
				t.Errorf("%q in %q is shown as %q", secret, before+form+after, got)
			}
		}
	})
}
