package transport_test

import (
	"errors"
	"testing"

	"github.com/stayauth/stayauth/tokencache"
	"github.com/stayauth/stayauth/transport"
	"github.com/stayauth/stayauth/transport/oauthtest"
)

// C09: a refresh token goes back to the issuer and client that it came from, and a
// record says which those are.
func TestLoginOfAnotherClientIsRefused(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newWorld(t, oauthtest.Config{})
		s := w.source()
		own := s.Key()
		for _, tt := range []struct {
			name    string
			key     tokencache.Key
			refused bool
		}{
			{"no key, as from Exchange", tokencache.Key{}, false},
			{"its own", own, false},
			{"another account of the same", tokencache.Key{Issuer: own.Issuer, ClientID: own.ClientID, Account: "bob"}, false},
			{"another client", tokencache.Key{Issuer: own.Issuer, ClientID: "other"}, true},
			{"another client alone", tokencache.Key{ClientID: "other"}, true},
			{"another issuer", tokencache.Key{Issuer: "https://other.test", ClientID: own.ClientID}, true},
			{"the program's own token", tokencache.Key{Issuer: own.Issuer + "#client_credentials", ClientID: own.ClientID}, true},
		} {
			rec := record(w.srv.Login("ann"))
			rec.Key = tt.key
			if err := s.Login(t.Context(), rec); errors.Is(err, transport.ErrMisconfigured) != tt.refused || err != nil != tt.refused {
				t.Errorf("%s: %v, want refused: %v", tt.name, err, tt.refused)
			}
		}
		w.wantCounts(0, 0)
	})
}

// A store that says for ever that somebody else was faster does not keep Login busy for
// ever.
func TestLoginGivesUpAtEndlessConflicts(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newWorld(t, oauthtest.Config{})
		store := &troubled{Memory: new(tokencache.Memory)}
		saves := 0
		store.fail(func(op string, _ int32) error {
			if op != "save" {
				return nil
			}
			saves++
			return tokencache.ErrConflict
		})
		w.store = store
		err := w.source().Login(t.Context(), record(w.srv.Login("ann")))
		if !errors.Is(err, transport.ErrStorage) || !errors.Is(err, tokencache.ErrConflict) || saves != transport.SaveAgain {
			t.Errorf("after %d tries: %v", saves, err)
		}
	})
}
