package storecheck

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/stayauth/stayauth/tokencache"
)

// WrongSealingKey checks that an entry that was sealed with another key is reported as
// such, and stays.
func WrongSealingKey(t *testing.T, s tokencache.Store) {
	ours, theirs := cache(t, s, "1"), cache(t, s, "2")
	key := tokencache.Key{Issuer: "https://issuer.test", ClientID: "app", Account: "someone"}
	if _, err := ours.Save(t.Context(), key, &tokencache.Record{RefreshToken: "secret"}, ""); err != nil {
		t.Fatal(err)
	}
	if _, _, err := theirs.Load(t.Context(), key); !errors.Is(err, tokencache.ErrCorrupt) {
		t.Errorf("Load with another key: %v", err)
	}
	if r, _, err := ours.Load(t.Context(), key); err != nil || r.RefreshToken != "secret" {
		t.Errorf("Load with the key: %v", err)
	}
}

// RemoveAccount removes all that is stored of an account, as a service does whose user
// has gone, and checks that nothing else goes with it.
func RemoveAccount(t *testing.T, s tokencache.Store) {
	c := cache(t, s, "1")
	for _, account := range []string{"gone", "stays"} {
		for _, audience := range []string{"", "https://calendar.test", "https://mail.test"} {
			key := tokencache.Key{Issuer: "https://issuer.test", ClientID: "app", Account: account, Audience: audience}
			if _, err := c.Save(t.Context(), key, &tokencache.Record{RefreshToken: "secret"}, ""); err != nil {
				t.Fatal(err)
			}
		}
	}
	removed := 0
	for rec, err := range c.List(t.Context()) {
		if err != nil {
			t.Fatal(err)
		}
		if rec.Key.Account != "gone" {
			continue
		}
		_, version, err := c.Load(t.Context(), rec.Key)
		if err == nil {
			err = c.Delete(t.Context(), rec.Key, version)
		}
		if err != nil {
			t.Fatal(err)
		}
		removed++
	}
	var left []string
	for rec, err := range c.List(t.Context()) {
		if err != nil {
			t.Fatal(err)
		}
		left = append(left, rec.Key.Account)
	}
	if want := []string{"stays", "stays", "stays"}; removed != 3 || !slices.Equal(left, want) {
		t.Errorf("%d entries were removed, the others are of %v", removed, left)
	}
}

func cache(t *testing.T, s tokencache.Store, key string) *tokencache.Cache {
	t.Helper()
	c, err := tokencache.New(s, tokencache.KeyBytes([]byte(strings.Repeat(key, 32))))
	if err != nil {
		t.Fatal(err)
	}
	return c
}
