package upkeep

import (
	"testing"
	"time"

	"github.com/stayauth/stayauth/tokencache"
)

// The end of a login is announced when it is known and near, and once; that of a refresh token
// which the next refresh replaces is not.
func TestEnding(t *testing.T) {
	login := noon.Add(-25 * day)
	at := func(days float64) time.Time {
		if days == 0 {
			return time.Time{}
		}
		return login.Add(time.Duration(days * float64(day)))
	}
	for _, tt := range []struct {
		name                 string
		lifetime             time.Duration
		before, after        float64 // ends of the refresh token, in days after the login; 0: not known
		elapsed              time.Duration
		now, announced, want float64
	}{
		{name: "nothing is known", elapsed: day, now: 25},
		{name: "each refresh postpones the end", before: 31, after: 32, elapsed: day, now: 25},
		{name: "refreshes leave the end where it is", before: 30, after: 30, elapsed: day, now: 25, want: 30},
		{name: "with an error of a second", before: 30, after: 30.00001, elapsed: time.Minute, now: 25, want: 30.00001},
		{name: "not at once", before: 30, after: 30, elapsed: day, now: 22},
		{name: "too soon to tell", before: 30, after: 30, elapsed: time.Second, now: 25},
		{name: "the answer does not say", before: 30, elapsed: day, now: 25},
		{name: "nothing was known before", after: 30, elapsed: day, now: 25},
		{name: "announced before", before: 30, after: 30, elapsed: day, now: 25, announced: 30, want: 30},
		{name: "with another error of a second", before: 30, after: 30.00001, elapsed: day, now: 25, announced: 30, want: 30},
		{name: "the lifetime of any login", lifetime: 30 * day, elapsed: day, now: 24, want: 30},
		{name: "and not before its last week", lifetime: 30 * day, elapsed: day, now: 22.9},
		{name: "a short one", lifetime: day, elapsed: time.Hour, now: .76, want: 1},
		{name: "before its last quarter", lifetime: day, elapsed: time.Hour, now: .74},
		{name: "the lifetime is not what somebody has set", lifetime: 20 * day, elapsed: day, now: 25},
		{name: "postponed after it was announced", lifetime: 60 * day, elapsed: day, now: 55, announced: 30, want: 60},
		{name: "the earlier of two", lifetime: 30 * day, before: 28, after: 28, elapsed: day, now: 25, want: 28},
		{name: "refreshes do not reach beyond the lifetime", lifetime: 30 * day, before: 54, after: 55, elapsed: day, now: 25, want: 30},
	} {
		before := &tokencache.Record{AuthorizedAt: login, ObtainedAt: at(tt.now).Add(-tt.elapsed), RefreshExpiry: at(tt.before), EndingAt: at(tt.announced)}
		answer := &tokencache.Record{ObtainedAt: at(tt.now), RefreshExpiry: at(tt.after)}
		if got := Ending(before, answer, tt.lifetime, at(tt.now)); !got.Equal(at(tt.want)) {
			t.Errorf("%s: %v, want %v", tt.name, got, at(tt.want))
		}
	}
	// A record of another program may lack any time.
	if got := Ending(new(tokencache.Record), new(tokencache.Record), day, noon); !got.IsZero() {
		t.Errorf("%v is announced as the end of a login of which nothing is known", got)
	}
}
