package transport

import (
	"bytes"
	"compress/gzip"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// TestExpiresIn: whatever expires_in is, the tokens beside it are kept (C03).
func TestExpiresIn(t *testing.T) {
	for in, want := range map[string]time.Duration{ // 0: unknown
		`"expires_in":3600`:                      time.Hour,
		`"expires_in":3600.0`:                    time.Hour,
		`"expires_in":0.5`:                       time.Second / 2,
		`"expires_in":"3600"`:                    time.Hour,
		`"expires_in":" 3600.0 "`:                time.Hour,
		`"expires_in":3.6e3`:                     time.Hour,
		`"expires_in":""`:                        0,
		`"expires_in":null`:                      0,
		`"expires_in":0`:                         0,
		`"expires_in":-1`:                        0,
		`"expires_in":"never"`:                   0,
		`"expires_in":"NaN"`:                     0,
		`"expires_in":true`:                      0,
		`"expires_in":[3600]`:                    0,
		`"expires_in":{"seconds":3600}`:          0,
		`"x":0`:                                  0,
		`"created_at":1,"issued_at":"2"`:         0,
		`"expires_in":9e9`:                       longestLife,
		`"expires_in":1e400`:                     0,
		`"expires_in":99999999999999999999`:      longestLife,
		`"expires":3600`:                         time.Hour,
		`"expires":"3600","expires_in":""`:       time.Hour,
		`"expires":7200,"expires_in":3600`:       time.Hour,
		`"expires_in":2147483648,"refresh_in":0`: longestLife,

		// When, not how long. The clock of a bubble starts at 946684800.
		`"expires_at":946688400`:                        time.Hour,
		`"expires_at":"946688400"`:                      time.Hour,
		`"expires_at":946688400.5`:                      time.Hour + time.Second/2,
		`"expires_at":946688400000`:                     365 * 24 * time.Hour * 10, // ms from 2001 on
		`"expires_at":1000000000000`:                    53315200 * time.Second,
		`"expires_at":"2000-01-01T01:00:00Z"`:           time.Hour,
		`"expires_at":"2000-01-01T03:00:00.5+02:00"`:    time.Hour + time.Second/2,
		`"expires_at":"2000-01-01T03:00:00+0200"`:       time.Hour,
		`"expires_at":"2000-01-01 01:00:00"`:            0,
		`"expires_at":"1999-12-31T23:59:59Z"`:           0,
		`"expires_at":"9999-12-31T23:59:59Z"`:           longestLife,
		`"expires_at":946684800`:                        0,
		`"expires_at":946684799,"expires_on":946688400`: time.Hour,
		`"expires_on":"946688400"`:                      time.Hour,
		`"expires":946688400`:                           time.Hour,
		`"expires":"2000-01-01T01:00:00Z"`:              time.Hour,
		`"expires_in":946688400`:                        time.Hour,
		`"expires_in":"2000-01-01T01:00:00Z"`:           time.Hour,
		`"expires_in":1e12`:                             53315200 * time.Second,
		`"expires_in":60,"expires_at":946688400`:        time.Minute,
		`"expires_in":0,"expires_at":946688400`:         time.Hour,
		`"expires_in":3600000,"expires_in_sec":3600`:    time.Hour,
		`"expires_in":946080000`:                        0, // in 1999
		`"expires_in":946079999`:                        longestLife,
	} {
		synctest.Test(t, func(t *testing.T) {
			body := `{"access_token":"new-access","refresh_token":"new-refresh",` + in + `}`
			rec, err := testEndpoint(respond(200, body)).Refresh(t.Context(), testRecord())
			if err != nil || rec.AccessToken != "new-access" || rec.RefreshToken != "new-refresh" {
				t.Fatalf("%s: %s", in, meaning(rec, err))
			}
			var got time.Duration
			if !rec.Expiry.IsZero() {
				got = rec.Expiry.Sub(rec.ObtainedAt)
			}
			if got != want {
				t.Errorf("%s: the token lives for %v, want %v", in, got, want)
			}
		})
	}
}

// TestSlowAnswer: a token's life is counted from the request, the safe side.
func TestSlowAnswer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		start := time.Now().Round(0)
		rec, err := testEndpoint(roundTripFunc(func(req *http.Request) (*http.Response, error) {
			time.Sleep(10 * time.Second)
			return respond(200, `{"access_token":"new-access","expires_in":60}`).RoundTrip(req)
		})).Refresh(t.Context(), testRecord())
		if err != nil {
			t.Fatal(err)
		}
		if want := start.Add(10 * time.Second); rec.ObtainedAt != want {
			t.Errorf("obtained at %v, want %v", rec.ObtainedAt, want)
		}
		if want := start.Add(time.Minute); rec.Expiry != want {
			t.Errorf("expires at %v, want %v", rec.Expiry, want)
		}
	})
}

// TestExtra: what has no field of its own is kept, except what is too long for
// the stores.
func TestExtra(t *testing.T) {
	long := strings.Repeat("x", maxExtra+1)
	rec, err := testEndpoint(respond(200, `{"access_token":"a","s":"text","n":1.50,"o":{"a": [1, 2]},"nil":null,"empty":"","ok":true,"long":"`+long+`"}`)).
		Refresh(t.Context(), testRecord())
	if err != nil {
		t.Fatal(err)
	}
	if got, want := meaning(rec, nil), `access=a type=Bearer n=1.50 o={"a":[1,2]} s=text`; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

// TestManyExtras: an answer of many members makes no record that no Store can hold.
func TestManyExtras(t *testing.T) {
	var many strings.Builder
	for i := range 20_000 {
		fmt.Fprintf(&many, `"x%d":%d,`, i, i)
	}
	rec, err := testEndpoint(respond(200, `{`+many.String()+`"team":{"id":"T"},"access_token":"a"}`)).Refresh(t.Context(), testRecord())
	if err != nil {
		t.Fatal(err)
	}
	size := 0
	for name, value := range rec.Extra {
		size += len(name) + len(value)
	}
	if size > maxAllExtra || size < maxAllExtra-100 || rec.Extra["x0"] != "0" {
		t.Errorf("%d bytes in %d members", size, len(rec.Extra))
	}
}

func TestRetryAfter(t *testing.T) {
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	for value, want := range map[string]time.Duration{
		"":                               0,
		"0":                              0,
		"-5":                             0,
		"60":                             time.Minute,
		" 1.5 ":                          1500 * time.Millisecond,
		"86400":                          longestRetryAfter,
		"1e300":                          longestRetryAfter,
		"NaN":                            0,
		"soon":                           0,
		"Fri, 02 Jan 2026 03:05:05 GMT":  time.Minute,
		"Fri, 02 Jan 2026 03:03:05 GMT":  0,
		"Fri, 02 Jan 2099 03:03:05 GMT":  longestRetryAfter,
		"Friday, 02-Jan-26 03:05:05 GMT": time.Minute,
	} {
		if got := retryAfter(value, now); got != want {
			t.Errorf("%q: got %v, want %v", value, got, want)
		}
	}
}

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
			_, err := testEndpoint(respond(status, body)).Refresh(t.Context(), rec)
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
			_, err = testEndpoint(respond(400, fmt.Sprintf(`{%q:%s}`, member, text))).Refresh(t.Context(), rec)
			e, ok := errors.AsType[*Error](err)
			if !ok || e.Code+e.Description+e.URI != "" {
				t.Errorf("%s in %s: got %v", name, member, err)
			}
		}
	}
	// What is no part of it is shown.
	rec := testRecord()
	rec.RefreshToken = secret
	for _, text := range []string{"Refresh token is expired", "Trace ID: 11111111-2222-3333-4444-555555555555", "rt-Q is bad", "100% sure"} {
		_, err := testEndpoint(respond(400, fmt.Sprintf(`{"error":"invalid_grant","error_description":%q}`, text))).Refresh(t.Context(), rec)
		if e, ok := errors.AsType[*Error](err); !ok || e.Description != text {
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

func FuzzRetryAfter(f *testing.F) {
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	for _, seed := range []string{"", "60", "1e300", "Inf", "Fri, 02 Jan 2026 03:05:05 GMT"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, value string) {
		if d := retryAfter(value, now); d < 0 || d > longestRetryAfter {
			t.Errorf("%q: %v", value, d)
		}
	})
}

// gzipped returns what a proxy makes of a body.
func gzipped(body string) string {
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	w.Write([]byte(body))
	w.Close()
	return b.String()
}

// FuzzExpiry: whatever a member says, a token's end is unknown or lies ahead.
func FuzzExpiry(f *testing.F) {
	for _, seed := range []string{"", "3600", "1e300", "NaN", "-1", "946080000", "1767323045123", "2026-01-02T03:04:05Z", "9999-12-31T23:59:59+14:00", "0x1p-2"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		raw, err := json.Marshal(text)
		if err != nil {
			t.Skip()
		}
		now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
		a := &answer{sentAt: now, members: members{"expires_in": raw}}
		if end := a.expiry("expires_in"); !end.IsZero() && (!end.After(now) || end.Sub(now) > longestLife) {
			t.Errorf("%q ends at %v", text, end)
		}
	})
}

// FuzzAnswer: no answer makes the parser panic, none gets a secret printed, and
// none comes back as neither tokens nor error.
func FuzzAnswer(f *testing.F) {
	f.Add(200, `{"access_token":"a","expires_in":"x"}`, "application/json", "1")
	f.Add(400, `{"error":{"code":190,"type":"OAuthException"}}`, "text/plain", "")
	f.Add(200, `access_token=a&refresh_token=b`, "application/x-www-form-urlencoded", "")
	f.Add(302, `<html>`, "text/html", "-1")
	f.Add(200, `{"authed_user":{"access_token":"a"},"scope":[1,"b",null]}`, "", "")
	f.Add(200, `{"status":0,"body":{"access_token":"a","refresh_token":false,"expires_at":"2026-01-02T03:04:05Z"}}`, "", "")
	f.Add(200, gzipped(`{"access_token":"a","token_type":"User Access Token"};`), "", "")
	f.Add(200, "\x1f\x8b", "", "")
	f.Add(400, `{"errors":[{"errorType":"invalid_grant"},1],"error_uri":"https://a.test/%"}`, "", "")
	f.Fuzz(func(t *testing.T, status int, body, contentType, retry string) {
		const secret = "sent-secret"
		now := time.Now().Round(0)
		a := &answer{op: "refresh", status: status, sentAt: now, at: now, sent: []string{secret}, redirect: body,
			codes: codeTable{"a": ErrLoginRequired, "b": ErrUnavailable}}
		a.header = map[string][]string{"Content-Type": {contentType}, "Retry-After": {retry}}
		a.parse([]byte(body))
		rec, err := a.record()
		e, ok := errors.AsType[*Error](err)
		if err != nil && (!ok || e.Kind == "" || strings.Contains(err.Error(), secret) || len(e.Description) > maxDescription) {
			t.Errorf("error %#v", err)
		}
		if err == nil && (rec == nil || rec.AccessToken == "") || err != nil && rec != nil && (rec.AccessToken != "" || rec.RefreshToken == "") {
			t.Errorf("record %#v with error %v", rec, err)
		}
	})
}

// FuzzRefreshTokenSurvives: a refresh token in an answer that is JSON is never
// lost, whatever the other members are.
func FuzzRefreshTokenSurvives(f *testing.F) {
	f.Add("new-refresh", `3600`, `"Bearer"`, `"a b"`, `{}`)
	f.Add("new-refresh", `"soon"`, `"DPoP"`, `["a"]`, `null`)
	f.Add("new-refresh", `1e999`, `7`, `{}`, `[]`)
	f.Add("new-refresh", `"9999-12-31T23:59:59Z"`, `"User Access Token"`, `null`, `{"access_token":"a","refresh_token":"b"}`)
	f.Add("none", `1e12`, `"N_A"`, `false`, `0`)
	f.Fuzz(func(t *testing.T, token, expiresIn, tokenType, scope, other string) {
		body := fmt.Sprintf(`{"other":%s,"expires_in":%s,"refresh_in":%s,"refresh_expires_in":%s,"token_type":%s,"scope":%s,"access_token":"new-access","refresh_token":%q}`,
			other, expiresIn, expiresIn, expiresIn, tokenType, scope, token)
		var valid struct {
			RefreshToken string `json:"refresh_token"`
			AccessToken  string `json:"access_token"`
		}
		if json.Unmarshal([]byte(body), &valid) != nil || valid.RefreshToken == "" || valid.AccessToken != "new-access" {
			return
		}
		switch strings.ToLower(valid.RefreshToken) {
		case "null", "undefined", "none":
			valid.RefreshToken = "" // A word for none.
		}
		for _, body := range []string{body, body + "\x00<!-- n7 -->", gzipped(body)} {
			rec, err := testEndpoint(respond(200, body)).Refresh(t.Context(), testRecord())
			if rec == nil && valid.RefreshToken != "" || rec != nil && string(rec.RefreshToken) != valid.RefreshToken {
				t.Errorf("%q\ngot %+v, %v", body, rec, err)
			}
		}
	})
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
			if len(got) > maxDescription || secret != "" && strings.Contains(got, secret) {
				t.Errorf("%q in %q is shown as %q", secret, before+form+after, got)
			}
		}
	})
}
