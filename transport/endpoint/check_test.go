package endpoint

import (
	"errors"
	"testing"

	"github.com/stayauth/stayauth/tokencache"
	"github.com/stayauth/stayauth/transport"
)

// TestCheckOfNothing: nil, and a record with nothing but a key, mean that nothing is stored.
func TestCheckOfNothing(t *testing.T) {
	for name, rec := range map[string]*tokencache.Record{"nil": nil, "a key": {Key: tokencache.Key{Issuer: "i", ClientID: "c"}}} {
		if err := testEndpoint(nil).Check(rec); !errors.Is(err, transport.ErrLoginRequired) {
			t.Errorf("%s: got %v", name, err)
		}
		if err := testEndpoint(nil).ClientCredentials().Check(rec); err != nil {
			t.Errorf("%s, client credentials: %v", name, err)
		}
	}
}
