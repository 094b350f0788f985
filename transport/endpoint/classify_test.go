package endpoint

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stayauth/stayauth/transport"
	"github.com/stayauth/stayauth/transport/internal/renewal"
	"github.com/stayauth/stayauth/transport/internal/testkit"
)

// TestExtra: what has no field of its own is kept, except what is too long for
// the stores.
func TestExtra(t *testing.T) {
	long := strings.Repeat("x", maxExtra+1)
	rec, err := testEndpoint(testkit.Respond(200, `{"access_token":"a","s":"text","n":1.50,"o":{"a": [1, 2]},"nil":null,"empty":"","ok":true,"long":"`+long+`"}`)).
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
	rec, err := testEndpoint(testkit.Respond(200, `{`+many.String()+`"team":{"id":"T"},"access_token":"a"}`)).Refresh(t.Context(), testRecord())
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
		"86400":                          renewal.LongestRetryAfter,
		"1e300":                          renewal.LongestRetryAfter,
		"NaN":                            0,
		"soon":                           0,
		"Fri, 02 Jan 2026 03:05:05 GMT":  time.Minute,
		"Fri, 02 Jan 2026 03:03:05 GMT":  0,
		"Fri, 02 Jan 2099 03:03:05 GMT":  renewal.LongestRetryAfter,
		"Friday, 02-Jan-26 03:05:05 GMT": time.Minute,
	} {
		if got := retryAfter(value, now); got != want {
			t.Errorf("%q: got %v, want %v", value, got, want)
		}
	}
}

func FuzzRetryAfter(f *testing.F) {
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	for _, seed := range []string{"", "60", "1e300", "Inf", "Fri, 02 Jan 2026 03:05:05 GMT"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, value string) {
		if d := retryAfter(value, now); d < 0 || d > renewal.LongestRetryAfter {
			t.Errorf("%q: %v", value, d)
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
	f.Add(200, testkit.Gzip(`{"access_token":"a","token_type":"User Access Token"};`), "", "")
	f.Add(200, "\x1f\x8b", "", "")
	f.Add(400, `{"errors":[{"errorType":"invalid_grant"},1],"error_uri":"https://a.test/%"}`, "", "")
	f.Fuzz(func(t *testing.T, status int, body, contentType, retry string) {
		const secret = "sent-secret"
		now := time.Now().Round(0)
		a := &answer{op: "refresh", status: status, sentAt: now, at: now, sent: []string{secret}, redirect: body,
			codes: codeTable{"a": transport.ErrLoginRequired, "b": transport.ErrUnavailable}}
		a.header = map[string][]string{"Content-Type": {contentType}, "Retry-After": {retry}}
		a.parse([]byte(body))
		rec, err := a.record()
		e, ok := errors.AsType[*transport.Error](err)
		if err != nil && (!ok || e.Kind == "" || strings.Contains(err.Error(), secret) || len(e.Description) > 200) {
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
		for _, body := range []string{body, body + "\x00<!-- n7 -->", testkit.Gzip(body)} {
			rec, err := testEndpoint(testkit.Respond(200, body)).Refresh(t.Context(), testRecord())
			if rec == nil && valid.RefreshToken != "" || rec != nil && string(rec.RefreshToken) != valid.RefreshToken {
				t.Errorf("%q\ngot %+v, %v", body, rec, err)
			}
		}
	})
}
