package transport_test

import (
	"net/http"
	"testing"
	"time"

	"github.com/stayauth/stayauth/transport/oauthtest"
)

// A proof that an API reads late, because requests wait there, is made anew once, and the token
// is not refreshed for it.
func TestAProofThatWaitedAtTheAPI(t *testing.T) {
	for slow, want := range map[int]int{1: http.StatusOK, 2: http.StatusUnauthorized} {
		bubble(t, func(t *testing.T) {
			w := newBoundWorld(t, oauthtest.DPoP{})
			s := w.source()
			w.login(s, "ann")
			w.srv.Fault("/api", slow, oauthtest.Slow(20*time.Second))
			if status, body := get(t, w.client(s), w.srv.APIURL()); status != want {
				t.Errorf("%d slow answers: %d %s", slow, status, body)
			}
			if n := w.srv.Counts(); n.APICalls != 2 || n.BadProofs != slow || n.RepeatedProofs != 0 || n.TokenRequests != 0 {
				t.Errorf("%d slow answers: %+v", slow, n)
			}
		})
	}
}
