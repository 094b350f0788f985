package transport_test

import (
	"bytes"
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/stayauth/stayauth/tokencache"
	"github.com/stayauth/stayauth/transport"
	"github.com/stayauth/stayauth/transport/endpoint"
	"github.com/stayauth/stayauth/transport/oauthtest"
)

// A record in a format of a later version is not used, not changed and not taken for logged out,
// whatever is done with it; the error says what to do, and no request is made (C61). A version that
// knew nothing of keys did the same with those that are bound to one.
func TestRecordOfALaterFormat(t *testing.T) {
	w := newWorld(t, oauthtest.Config{Policy: oauthtest.StrictFamily})
	store := new(tokencache.Memory)
	key := tokencache.Key{Issuer: w.srv.TokenURL(), ClientID: w.srv.ClientID(), Account: "ann"}
	record := []byte(`{"v":3,"access_token":"a-token","refresh_token":"a-refresh-token","expiry":"2020-01-01T00:00:00Z","grant":"l","generation":3}`)
	if _, err := store.Save(t.Context(), key.Name(), record, ""); err != nil {
		t.Fatal(err)
	}
	cache, err := tokencache.New(store, nil)
	if err != nil {
		t.Fatal(err)
	}
	e := &endpoint.Endpoint{TokenURL: w.srv.TokenURL(), ClientID: w.srv.ClientID(), Base: w.base, DPoP: &endpoint.DPoP{}}
	pool, err := transport.NewPool(transport.PoolConfig{Source: transport.SourceConfig{Cache: cache, Refresher: e}})
	if err != nil {
		t.Fatal(err)
	}
	defer pool.Close(context.Background())
	s := pool.Source("ann")
	for name, use := range map[string]func() error{
		"Token":  func() error { _, err := s.Token(t.Context()); return err },
		"Status": func() error { _, err := s.Status(t.Context()); return err },
		"Reject": func() error { _, err := s.Reject(t.Context(), transport.Token{AccessToken: "a-token"}); return err },
		"Logout": func() error { return s.Logout(t.Context()) },
	} {
		if err := use(); !errors.Is(err, tokencache.ErrCorrupt) || errors.Is(err, transport.ErrLoginRequired) || !strings.Contains(err.Error(), "update the program") {
			t.Errorf("%s: %v", name, err)
		}
	}
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	pool.KeepFresh(ctx)
	if data, _, err := store.Load(t.Context(), key.Name()); err != nil || !bytes.Equal(data, record) {
		t.Errorf("the record was changed: %v", err)
	}
	if n := w.srv.Counts(); n.TokenRequests+n.Revocations+n.Questions > 0 {
		t.Errorf("requests were made: %+v", n)
	}
}
