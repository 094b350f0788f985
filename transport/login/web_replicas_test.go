package login

import (
	"testing"

	"github.com/stayauth/stayauth/transport/oauthtest"
)

// W43: nothing is kept on the server between start and answer, so replicas take turns, and
// each is new.
func TestW43AnyReplicaTakesTheAnswer(t *testing.T) {
	s := newSite(t, oauthtest.Config{Policy: oauthtest.StrictFamily}, 3, nil)
	for _, user := range []string{"ann", "bob", "cid"} {
		b := s.surfer(user)
		b.wantApp(b.connect("return", "/accounts"), "/accounts")
		rec := s.record(user, "")
		if rec == nil || !s.srv.Valid(string(rec.RefreshToken)) || rec.Scope != "api openid" {
			t.Errorf("%s: the stored login is %+v", user, rec)
		}
	}
	if c := s.srv.Counts(); c.TokenRequests != 3 {
		t.Errorf("%d token requests", c.TokenRequests)
	}
}
