package endpoint

import (
	"context"
	"crypto"
	"errors"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/stayauth/stayauth/tokencache"
	"github.com/stayauth/stayauth/transport"
	"github.com/stayauth/stayauth/transport/internal/helper"
	"github.com/stayauth/stayauth/transport/internal/testkit"
)

// A key service that hangs holds up the logins that are bound to its keys, and no other: neither
// what says who the client is, nor logins whose keys are in their records (C73).
func TestKeyServiceThatHangsHoldsUpNobodyElse(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		over := make(chan struct{})
		defer close(over)
		s := &script{answers: []string{isBound}}
		e := boundEndpoint(s)
		e.ClientAuth = countedAuth(func() string { return "assertion" })
		e.DPoP.Key = func(context.Context, string) (crypto.Signer, error) { <-over; return nil, nil }
		elsewhere, own := boundRecord(t), boundRecord(t)
		_, thumbprint := elsewhere.Proof()
		elsewhere.Bind("", thumbprint)
		for range 2 * helper.MaxHanging {
			if _, err := e.Refresh(t.Context(), elsewhere); !errors.Is(err, transport.ErrUnavailable) {
				t.Fatalf("without a key: %v", err)
			}
		}
		if _, err := e.Refresh(t.Context(), own); err != nil {
			t.Errorf("a login with a key of its own: %v", err)
		}
		s.answers = []string{isBearer}
		s.forms, s.proofs = nil, nil
		if _, err := e.Refresh(t.Context(), &tokencache.Record{TokenURL: e.TokenURL, RefreshToken: "r1"}); err != nil || len(s.forms) != 1 {
			t.Errorf("a login without a key: %v", err)
		}
	})
}

// A key that was swapped in a record is not used, and the error says what is wrong (C60).
func TestKeySwappedInARecord(t *testing.T) {
	s := &script{answers: []string{isBound}}
	rec, other := boundRecord(t), boundRecord(t)
	_, thumbprint := rec.Proof()
	private, _ := other.Proof()
	rec.Bind(private, thumbprint)
	_, err := boundEndpoint(s).Refresh(t.Context(), rec)
	if e, ok := errors.AsType[*transport.Error](err); !ok || e.Kind != transport.ErrMisconfigured || e.Remedy != "log in again: the key in the record is not the one that its tokens are bound to" || len(s.forms) != 0 {
		t.Errorf("%d requests, %v", len(s.forms), err)
	}
}

// A provider that repeats a proof of possession in an error does not get it shown: it may not have
// been used yet.
func TestErrorsDoNotShowProofs(t *testing.T) {
	for _, code := range []string{"invalid_dpop_proof", "use_dpop_nonce", "invalid_request"} {
		var proof string
		e := boundEndpoint(nil)
		e.Base = answering(func(req *http.Request) (*http.Response, error) {
			proof = req.Header.Get("DPoP")
			return testkit.Respond(http.StatusBadRequest, `{"error":"`+code+`","error_description":"what is `+proof[len(proof)-100:]+`?"}`).RoundTrip(req)
		})
		_, err := e.Refresh(t.Context(), boundRecord(t))
		if err == nil || strings.Contains(err.Error(), proof[len(proof)-20:]) {
			t.Errorf("%s: %v", code, err)
		}
	}
}

// answering is a provider.
type answering func(*http.Request) (*http.Response, error)

func (f answering) RoundTrip(req *http.Request) (*http.Response, error) { return f(req) }
