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

// A login stays bound when DPoP becomes optional, or when the metadata is not known any more, as
// while it cannot be discovered: it is renewed with its proof, and a bearer token in answer is still
// discarded (C62).
func TestOptionalDoesNotUnbind(t *testing.T) {
	for name, change := range map[string]func(*Endpoint){
		"required, without metadata": func(*Endpoint) {},
		"optional, without metadata": func(e *Endpoint) { e.DPoP.Optional = true },
		"optional, with metadata":    func(e *Endpoint) { e.DPoP.Optional, e.DPoPAlgorithms = true, []string{"ES256"} },
	} {
		s := &script{answers: []string{isBound, isBearer}}
		e, rec := boundEndpoint(s), boundRecord(t)
		change(e)
		if next, err := e.Refresh(t.Context(), rec); err != nil || s.proofs[0] == nil || next.TokenType != "DPoP" {
			t.Errorf("%s: %v", name, err)
		}
		if next, err := e.Refresh(t.Context(), rec); !errors.Is(err, transport.ErrMisconfigured) || next.AccessToken != "" || next.RefreshToken != "r2" {
			t.Errorf("%s: a bearer token: %v, %v", name, next, err)
		}
	}
}

// Where DPoP is optional, a provider that does not know how the keys of this module sign has logins
// without one, as one that knows no DPoP. A key of the program is not left out like that.
func TestOptionalWithAnotherAlgorithm(t *testing.T) {
	s := &script{answers: []string{isBearer}}
	e := boundEndpoint(s)
	e.DPoP.Optional, e.DPoPAlgorithms = true, []string{"ES384"}
	rec, err := e.Exchange(t.Context(), "code", "", "")
	if err != nil || s.proofs[0] != nil {
		t.Fatalf("got %v, with the proof %v", err, s.proofs)
	}
	if _, thumbprint := rec.Proof(); thumbprint != "" {
		t.Error("it is bound")
	}
	if same, err := e.Bind(t.Context(), "", ""); same != e || err != nil {
		t.Errorf("Bind: %v, %v", same, err)
	}
	key := testkit.NewKey(t, "ES256")
	e.DPoP.Key = func(context.Context, string) (crypto.Signer, error) { return key, nil }
	if _, err := e.Exchange(t.Context(), "code", "", ""); !errors.Is(err, transport.ErrMisconfigured) || len(s.forms) != 1 {
		t.Errorf("with a key of the program: %d requests, %v", len(s.forms), err)
	}
}

// A program that acts for itself gets over the loss of its key: the next token is bound to another
// one. While the key only cannot be had, nothing is sent, and without DPoP nothing either (C60).
func TestLostKeyOfAProgram(t *testing.T) {
	old, next := testkit.NewKey(t, "ES256"), testkit.NewKey(t, "ES256")
	elsewhere := func(find func(thumbprint string) (crypto.Signer, error)) *DPoP {
		return &DPoP{Key: func(_ context.Context, thumbprint string) (crypto.Signer, error) { return find(thumbprint) }}
	}
	for name, tt := range map[string]struct {
		dpop *DPoP
		want error
	}{
		"it is gone": {elsewhere(func(thumbprint string) (crypto.Signer, error) {
			if thumbprint != "" {
				return nil, nil
			}
			return next, nil
		}), nil},
		"there is another one":         {elsewhere(func(string) (crypto.Signer, error) { return next, nil }), nil},
		"new keys are in the records":  {new(DPoP), nil},
		"the key service is down":      {elsewhere(func(string) (crypto.Signer, error) { return nil, errors.New("down") }), transport.ErrUnavailable},
		"there is no key at all":       {elsewhere(func(string) (crypto.Signer, error) { return nil, nil }), transport.ErrMisconfigured},
		"the program has no DPoP":      {nil, transport.ErrMisconfigured},
		"the key is where it has been": {elsewhere(func(string) (crypto.Signer, error) { return old, nil }), nil},
	} {
		s := &script{answers: []string{isBound}}
		e := boundEndpoint(s)
		e.DPoP = elsewhere(func(string) (crypto.Signer, error) { return old, nil })
		first, err := e.ClientCredentials().Refresh(t.Context(), &tokencache.Record{})
		if err != nil {
			t.Fatal(err)
		}
		e.DPoP = tt.dpop
		again, err := e.ClientCredentials().Refresh(t.Context(), first)
		if !errors.Is(err, tt.want) || tt.want == nil && err != nil || tt.want != nil && len(s.forms) != 1 {
			t.Errorf("%s: %d requests, %v", name, len(s.forms), err)
			continue
		}
		if tt.want == nil {
			_, was := first.Proof()
			if _, is := again.Proof(); is == "" || (is == was) != (name == "the key is where it has been") {
				t.Errorf("%s: the key %q has become %q", name, was, is)
			}
		}
	}
}

// If a provider wants a proof for the end of a login and the key cannot be had, the error is about
// the key: the login can be ended once it is back. If the provider wants none, it has ended.
func TestRevocationWithoutTheKey(t *testing.T) {
	for name, url := range map[string]func(*Endpoint) *string{
		"revocation": func(e *Endpoint) *string { return &e.RevocationURL },
		"logout":     func(e *Endpoint) *string { return &e.LogoutURL },
	} {
		for answer, want := range map[string]error{
			refusal("invalid_dpop_proof"): transport.ErrUnavailable, refusal("use_dpop_nonce", "DPoP-Nonce: n1"): transport.ErrUnavailable, "200 OK\n\n": nil,
		} {
			s := &script{answers: []string{answer}}
			e, rec := boundEndpoint(s), boundRecord(t)
			*url(e) = "https://as.test/end"
			e.DPoP.Key = func(context.Context, string) (crypto.Signer, error) { return nil, errors.New("down") }
			_, thumbprint := rec.Proof()
			rec.Bind("", thumbprint)
			if err := e.Revoke(t.Context(), rec); !errors.Is(err, want) || want == nil && err != nil || s.proofs[0] != nil {
				t.Errorf("%s: %v after %.20s", name, err, answer)
			}
		}
	}
}

// A provider that asks for proofs from now on does not get one for a login that was made before. The
// login is kept, because a proof can be asked for by mistake, and the error says what there is to do.
func TestLoginThatWasMadeBeforeDPoP(t *testing.T) {
	for _, tt := range []struct {
		dpop   *DPoP
		remedy string
	}{{nil, "set it, or"}, {new(DPoP), "log in again, or"}, {&DPoP{Optional: true}, "log in again, or"}} {
		for _, code := range []string{"invalid_dpop_proof", "use_dpop_nonce"} {
			s := &script{answers: []string{refusal(code)}}
			e := boundEndpoint(s)
			e.DPoP = tt.dpop
			_, err := e.Refresh(t.Context(), &tokencache.Record{TokenURL: e.TokenURL, RefreshToken: "r1"})
			if failed, ok := errors.AsType[*transport.Error](err); !ok || failed.Kind != transport.ErrMisconfigured || !strings.HasPrefix(failed.Remedy, tt.remedy) || len(s.forms) != 1 {
				t.Errorf("%s: %d requests, %v", code, len(s.forms), err)
			}
		}
	}
}
