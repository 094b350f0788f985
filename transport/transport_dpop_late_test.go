package transport_test

import (
	"io"
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

// A connection that breaks while an API handles a request makes net/http send it again, and so do
// proxies: with the same proof, which is good once. The API refuses it, and the request is sent
// with another; the token is not refreshed for it (C58).
func TestAProofThatWasSentTwice(t *testing.T) {
	w := newBoundWorld(t, oauthtest.DPoP{})
	s := w.source()
	w.login(s, "ann")
	direct := w.srv.RoundTripper()
	w.base = roundTrip(func(r *http.Request) (*http.Response, error) {
		if r.Method == http.MethodGet && w.srv.Counts().APICalls < 2 { // the first copy of the second request
			resp, err := direct.RoundTrip(r)
			if err != nil || w.srv.Counts().APICalls == 1 {
				return resp, err
			}
			io.Copy(io.Discard, resp.Body)
			resp.Body.Close()
		}
		return direct.RoundTrip(r)
	})
	for range 3 {
		w.wantAllowed(w.client(s))
	}
	if n := w.srv.Counts(); n.APICalls != 5 || n.RepeatedProofs != 1 || n.TokenRequests != 0 {
		t.Errorf("the server has seen %+v", n)
	}
}

// A gateway that drops the challenge, as that of Amazon renames it, leaves a nonce in the answer:
// the request is sent with that before the token is refreshed (C66).
func TestNonceWithoutAChallenge(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newBoundWorld(t, oauthtest.DPoP{APINonces: true})
		s := w.source()
		w.login(s, "ann")
		direct := w.srv.RoundTripper()
		w.base = roundTrip(func(r *http.Request) (*http.Response, error) {
			resp, err := direct.RoundTrip(r)
			if err == nil {
				resp.Header["X-Amzn-Remapped-Www-Authenticate"] = resp.Header["Www-Authenticate"]
				delete(resp.Header, "Www-Authenticate")
			}
			return resp, err
		})
		time.Sleep(time.Minute) // The token could be refreshed.
		w.wantAllowed(w.client(s))
		w.wantAllowed(w.client(s))
		if n := w.srv.Counts(); n.APICalls != 3 || n.TokenRequests != 0 {
			t.Errorf("%d calls, %d token requests", n.APICalls, n.TokenRequests)
		}
	})
}
