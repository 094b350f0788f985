package endpoint

import (
	"net/http"
	"net/url"
	"testing"
	"time"

	"github.com/stayauth/stayauth/tokencache"
	"github.com/stayauth/stayauth/transport/internal/testkit"
)

// answers plays a provider that gives one answer after the other.
func answers(t *testing.T, sent *[]url.Values, bodies ...string) http.RoundTripper {
	return testkit.RoundTripFunc(func(req *http.Request) (*http.Response, error) {
		if err := req.ParseForm(); err != nil {
			t.Fatal(err)
		}
		status, body := http.StatusServiceUnavailable, ""
		if n := len(*sent); n < len(bodies) {
			status, body = http.StatusOK, bodies[n]
		}
		*sent = append(*sent, req.PostForm)
		return testkit.Respond(status, body).RoundTrip(req)
	})
}

// TestExchangeGrant: what a code brings is exchanged at once, and again to renew it; if the
// first exchange fails, the login is there all the same, and is renewed when it is used.
func TestExchangeGrant(t *testing.T) {
	for _, tt := range []struct {
		name    string
		answers []string
		token   string
		life    time.Duration
	}{
		{"exchanged", []string{`{"access_token":"short","expires_in":3600}`, `{"access_token":"long","expires_in":5184000}`}, "long", 60 * 24 * time.Hour},
		{"not exchanged", []string{`{"access_token":"short","expires_in":3600}`}, "short", time.Hour},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var sent []url.Values
			e := testEndpoint(answers(t, &sent, tt.answers...))
			e.ExchangeGrant = "fb_exchange_token"
			rec, err := e.Exchange(t.Context(), "code", "", "")
			if err != nil {
				t.Fatal(err)
			}
			if string(rec.AccessToken) != tt.token || rec.RefreshToken != rec.AccessToken || rec.Expiry.Sub(rec.ObtainedAt).Round(time.Minute) != tt.life {
				t.Errorf("got %v with the token %q, which renews itself: %v", rec, string(rec.AccessToken), rec.RefreshToken == rec.AccessToken)
			}
			if early := !rec.RefreshAt.IsZero(); early != (tt.token == "short") {
				t.Errorf("to be renewed at once: %v", early)
			}
			if len(sent) != 2 || sent[1].Get("grant_type") != "fb_exchange_token" || sent[1].Get("fb_exchange_token") != "short" {
				t.Errorf("sent %q", sent)
			}
		})
	}
}

// TestExchangeGrantOfAForeignRecord: one that was not made here has no copy of its token.
func TestExchangeGrantOfAForeignRecord(t *testing.T) {
	var sent []url.Values
	e := testEndpoint(answers(t, &sent, `{"access_token":"next"}`))
	e.ExchangeGrant = "fb_exchange_token"
	rec, err := e.Refresh(t.Context(), &tokencache.Record{TokenURL: e.TokenURL, AccessToken: "short"})
	if err != nil || rec.RefreshToken != "next" || sent[0].Get("fb_exchange_token") != "short" {
		t.Errorf("got %v, %v after %q", rec, err, sent)
	}
}

// TestRepeatRedirectURI: GitLab wants to see that of the login at each refresh.
func TestRepeatRedirectURI(t *testing.T) {
	for _, repeat := range []bool{true, false} {
		var sent []url.Values
		e := testEndpoint(answers(t, &sent, `{"access_token":"a","refresh_token":"r"}`, `{"access_token":"b","refresh_token":"s"}`))
		e.RepeatRedirectURI = repeat
		rec, err := e.Exchange(t.Context(), "code", "", "http://127.0.0.1/callback")
		if err != nil {
			t.Fatal(err)
		}
		if _, err := e.Refresh(t.Context(), rec); err != nil {
			t.Fatal(err)
		}
		want := ""
		if repeat {
			want = "http://127.0.0.1/callback"
		}
		if got := sent[1].Get("redirect_uri"); got != want || string(rec.Extra["redirect_uri"]) != want {
			t.Errorf("repeat is %v: sent %q, kept %q", repeat, got, string(rec.Extra["redirect_uri"]))
		}
	}
}
