package endpoint_test

import (
	"errors"
	"net/http"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stayauth/stayauth/tokencache"
	"github.com/stayauth/stayauth/transport"
	"github.com/stayauth/stayauth/transport/endpoint"
	"github.com/stayauth/stayauth/transport/internal/testkit"
	"github.com/stayauth/stayauth/transport/oauthtest"
)

// A proof that waits in the queue of a slow provider is too old when it is read. That is nobody's
// fault: the refresh token is presented once more at once, with another proof, and if that
// waits as well, the provider is called slow, and not the machine misconfigured (C67).
func TestAProofThatHasWaited(t *testing.T) {
	for slow, want := range map[int]error{1: nil, 2: transport.ErrUnavailable} {
		synctest.Test(t, func(t *testing.T) {
			s := oauthtest.New(oauthtest.Config{Policy: oauthtest.StrictFamily, AuthStyle: oauthtest.AuthNone, DPoP: oauthtest.DPoP{Mode: oauthtest.DPoPRequired}})
			defer s.Close()
			e := &endpoint.Endpoint{TokenURL: s.TokenURL(), ClientID: s.ClientID(), Base: s.RoundTripper(), DPoP: &endpoint.DPoP{}}
			bound, err := e.Bind(t.Context(), "", "")
			if err != nil {
				t.Fatal(err)
			}
			signer, err := e.ProofKey(t.Context(), recordOf(bound))
			if err != nil {
				t.Fatal(err)
			}
			rec := s.LoginBound("alice", signer.Public()).Record()
			rec.Bind(bound.Proof())
			rec.TokenURL = s.TokenURL()
			s.Fault("/token", slow, oauthtest.Slow(20*time.Second))
			next, err := e.Refresh(t.Context(), rec)
			if !errors.Is(err, want) || (next == nil) != (want != nil) {
				t.Errorf("%d slow answers: %v", slow, err)
			}
			if n := s.Counts(); n.TokenRequests != 2 || n.BadProofs != slow || n.RepeatedProofs != 0 || n.Reuses != 0 {
				t.Errorf("%d slow answers: %+v", slow, n)
			}
		})
	}
}

// A proof that has come before says that something has sent the request twice, and nobody knows
// what has become of the first copy: the refresh token may have been spent, so it is presented
// again soon, while the provider forgives that, and not after a pause as for a mistake in the
// configuration.
func TestAProofThatWasSentTwice(t *testing.T) {
	for _, body := range []string{
		`{"error":"invalid_dpop_proof","error_description":"DPoP proof JWT Replay detected"}`,       // oidc-provider
		`{"error":"invalid_dpop_proof","error_description":"DPoP proof replayed"}`,                  // Bluesky
		`{"error":"invalid_request","error_description":"DPoP proof has already been used"}`,        // Keycloak
		`{"error":"invalid_dpop_proof","error_description":"the jti of the proof was used before"}`, // oauthtest
	} {
		for _, date := range []time.Duration{0, 5 * time.Minute} {
			requests := 0
			e := &endpoint.Endpoint{TokenURL: "https://as.test/token", ClientID: "client", DPoP: new(endpoint.DPoP)}
			e.Base = testkit.RoundTripFunc(func(req *http.Request) (*http.Response, error) {
				requests++
				resp, err := testkit.Respond(http.StatusBadRequest, body).RoundTrip(req)
				resp.Header = http.Header{"Date": {time.Now().Add(date).UTC().Format(http.TimeFormat)}}
				return resp, err
			})
			bound, err := e.Bind(t.Context(), "", "")
			if err != nil {
				t.Fatal(err)
			}
			rec := recordOf(bound)
			rec.TokenURL, rec.RefreshToken = e.TokenURL, "r1"
			if _, err := e.Refresh(t.Context(), rec); !errors.Is(err, transport.ErrAmbiguous) || requests != 1 {
				t.Errorf("%s: %d requests, %v", body, requests, err)
			}
		}
	}
}

func recordOf(e *endpoint.Endpoint) *tokencache.Record {
	rec := new(tokencache.Record)
	rec.Bind(e.Proof())
	return rec
}
