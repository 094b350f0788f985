package provider_test

import (
	"errors"
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stayauth/stayauth/tokencache"
	"github.com/stayauth/stayauth/transport"
)

const (
	day = 24 * time.Hour

	// facebookCode is the answer to a code.
	facebookCode = `{"access_token":"facebook-access-1","token_type":"bearer","expires_in":5400}`
)

func facebook(t *testing.T) *life {
	t.Helper()
	return newLife(t, presets[slices.IndexFunc(presets, func(p preset) bool { return p.name == "Facebook" })])
}

// spent returns the access tokens that were exchanged.
func (l *life) spent() (tokens []string) {
	for _, r := range l.requests {
		if r.form.Get("grant_type") == "fb_exchange_token" {
			tokens = append(tokens, r.form.Get("fb_exchange_token"))
		}
	}
	return tokens
}

// TestFacebook: the token that a code brings is exchanged at once for one of 60
// days, and that one 20 days or a little less before its end, while it is used.
func TestFacebook(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := facebook(t)
		l.first(facebookCode)
		l.answers("success")
		l.login()
		tok := l.wantToken("facebook-access-2")
		if life := time.Until(tok.Expiry); life < 59*day {
			t.Errorf("the token of the login lives %v", life)
		}

		l.answers("rotation")
		l.restart()
		time.Sleep(39 * day)
		l.wantToken("facebook-access-2")
		if got := l.spent(); !slices.Equal(got, []string{"facebook-access-1"}) {
			t.Errorf("exchanged %v before it was time", got)
		}
		time.Sleep(6 * day)
		l.wantToken("facebook-access-2") // The exchange goes on behind it.
		if err := l.source.Flush(t.Context()); err != nil {
			t.Fatal(err)
		}
		tok = l.wantToken("facebook-access-3")
		if life := time.Until(tok.Expiry); life < 59*day {
			t.Errorf("the new token lives %v", life)
		}
		if got := l.spent(); !slices.Equal(got, []string{"facebook-access-1", "facebook-access-2"}) {
			t.Errorf("exchanged %v", got)
		}
		st, err := l.source.Status(t.Context())
		if err != nil || !st.RefreshExpiry.Equal(tok.Expiry) {
			t.Errorf("the login ends at %v, its token at %v, %v", st.RefreshExpiry, tok.Expiry, err)
		}

		l.outlive(tok)
		l.answers("expired")
		l.wantError(loginAgain)
		asked, _ := l.seen()
		l.restart()
		l.wantError(loginAgain)
		if again, _ := l.seen(); again != asked {
			t.Error("an expired token was presented again")
		}
		if err := l.source.Logout(t.Context()); err != nil {
			t.Error(err)
		}
	})
}

// TestFacebookLateExchange: if the exchange at the login fails, the login is good
// all the same, and the exchange is made when the token is first used. So is that
// of a token that came from elsewhere.
func TestFacebookLateExchange(t *testing.T) {
	for _, failure := range []string{"outage", "throttled"} {
		synctest.Test(t, func(t *testing.T) {
			l := facebook(t)
			l.first(facebookCode)
			l.answers(failure)
			l.login()
			l.answers("success")
			time.Sleep(2 * time.Minute) // until the process is none that ends soon
			l.wantToken("facebook-access-1")
			if err := l.source.Flush(t.Context()); err != nil {
				t.Fatal(err)
			}
			l.wantToken("facebook-access-2")
		})
	}
	synctest.Test(t, func(t *testing.T) {
		l := facebook(t)
		err := l.source.Login(t.Context(), &tokencache.Record{AccessToken: "facebook-access-1", Expiry: time.Now().Add(time.Hour)})
		if err != nil {
			t.Fatal(err)
		}
		time.Sleep(55 * time.Minute)
		l.answers("success")
		l.wantToken("facebook-access-1")
		if err := l.source.Flush(t.Context()); err != nil {
			t.Fatal(err)
		}
		l.wantToken("facebook-access-2")
	})
}

// TestFacebookOutage: an outage of days, late in the life of a token, costs nothing.
func TestFacebookOutage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := facebook(t)
		l.first(facebookCode)
		l.answers("success")
		l.login()
		l.answers("outage")
		for range 50 {
			time.Sleep(day)
			l.wantToken("facebook-access-2")
			l.source.Flush(t.Context())
		}
		l.answers("rotation")
		time.Sleep(day)
		l.wantToken("facebook-access-2")
		l.source.Flush(t.Context())
		l.wantToken("facebook-access-3")
	})
}

// TestFacebookSameToken: if Facebook returns the token that it was sent and its end
// stays where it was, then a few requests are made in all, and the user learns of
// the end in time.
func TestFacebookSameToken(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := facebook(t)
		l.first(facebookCode)
		l.answers("success")
		l.login()
		end := l.wantToken("facebook-access-2").Expiry
		for time.Until(end) > time.Hour {
			time.Sleep(time.Hour)
			l.mu.Lock()
			l.next = nil
			l.mu.Unlock()
			l.first(fmt.Sprintf(`{"access_token":"facebook-access-2","token_type":"bearer","expires_in":%d}`, int(time.Until(end).Seconds())))
			l.wantToken("facebook-access-2")
			l.source.Flush(t.Context())
		}
		if got := len(l.spent()); got < 3 || got > 20 {
			t.Errorf("%d exchanges in 60 days", got)
		}
		st, err := l.source.Status(t.Context())
		if err != nil || st.RefreshExpiry.Sub(end).Abs() > time.Minute {
			t.Errorf("the login ends at %v, said to end at %v, %v", end, st.RefreshExpiry, err)
		}
	})
}

// TestFacebookSecrecy: what is exchanged is a secret, and no error repeats it.
func TestFacebookSecrecy(t *testing.T) {
	l := facebook(t)
	l.next = []string{"HTTP/1.1 400 Bad Request\r\n\r\n" +
		`{"error":{"type":"OAuthException","code":190,"message":"Malformed access token facebook-access-1"}}`}
	_, err := l.endpoint.Refresh(t.Context(), &tokencache.Record{
		TokenURL: l.endpoint.TokenURL, AccessToken: "facebook-access-1", RefreshToken: "facebook-access-1",
	})
	if e, ok := errors.AsType[*transport.Error](err); !ok || e.Kind != transport.ErrLoginRequired || e.Description != "" {
		t.Errorf("got %v", err)
	}
}
