package redisstore_test

import (
	"testing"

	"github.com/stayauth/stayauth/testdata/realparts"
	"github.com/stayauth/stayauth/tokencache"
	"github.com/stayauth/stayauth/tokencache/redisstore"
)

// The name, and nothing else, tells a server from its copies (F7): without one, or while it is
// given to the replicas of a service one by one, there is no alarm.
func TestCopiesAreToldApartByName(t *testing.T) {
	t.Parallel()
	server := realparts.StartRedis(t)
	key := tokencache.Key{Issuer: "https://issuer.test", ClientID: "app"}
	at := func(name string) *tokencache.Cache {
		s, err := redisstore.Open(redisstore.Config{URL: server.URL(), Name: name})
		must(t, err)
		t.Cleanup(func() { s.Close() })
		c, err := tokencache.New(s, tokencache.KeyBytes(make([]byte, 32)))
		must(t, err)
		return c
	}
	var v tokencache.Version
	for _, saved := range []string{"", "production"} {
		var err error
		v, err = at(saved).Save(t.Context(), key, &tokencache.Record{RefreshToken: "secret"}, v)
		must(t, err)
		for _, found := range []string{"", "production", "staging"} {
			r, _, err := at(found).Load(t.Context(), key)
			must(t, err)
			if want := saved == "production" && found == "staging"; r.IsCopy() != want {
				t.Errorf("saved under the name %q and found under %q, it is a copy: %t", saved, found, r.IsCopy())
			}
		}
	}
	if _, err := redisstore.Open(redisstore.Config{URL: server.URL(), Name: "a\nb"}); err == nil {
		t.Error("a name of two lines is accepted")
	}
}
