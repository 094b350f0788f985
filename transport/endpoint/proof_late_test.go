package endpoint_test

import (
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stayauth/stayauth/tokencache"
	"github.com/stayauth/stayauth/transport"
	"github.com/stayauth/stayauth/transport/endpoint"
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

func recordOf(e *endpoint.Endpoint) *tokencache.Record {
	rec := new(tokencache.Record)
	rec.Bind(e.Proof())
	return rec
}
