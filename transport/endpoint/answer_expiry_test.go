package endpoint

import (
	"encoding/json"
	"net/http"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stayauth/stayauth/transport/internal/testkit"
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
			rec, err := testEndpoint(testkit.Respond(200, body)).Refresh(t.Context(), testRecord())
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
		rec, err := testEndpoint(testkit.RoundTripFunc(func(req *http.Request) (*http.Response, error) {
			time.Sleep(10 * time.Second)
			return testkit.Respond(200, `{"access_token":"new-access","expires_in":60}`).RoundTrip(req)
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

// FuzzExpiry: whatever a member says, a token's end is unknown or lies ahead.
func FuzzExpiry(f *testing.F) {
	for _, seed := range []string{"", "3600", "1e300", "NaN", "-1", "946080000", "1767323045123", "2026-01-02T03:04:05Z", "9999-12-31T23:59:59+14:00", "0x1p-2"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		raw, err := json.Marshal(text)
		if err != nil {
			return
		}
		now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
		a := &answer{sentAt: now, members: members{"expires_in": raw}}
		if end := a.expiry("expires_in"); !end.IsZero() && (!end.After(now) || end.Sub(now) > longestLife) {
			t.Errorf("%q ends at %v", text, end)
		}
	})
}
