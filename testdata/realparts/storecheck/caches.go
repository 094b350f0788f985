package storecheck

import (
	"bytes"
	"context"
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

// ReplaceKey replaces the sealing key in the order that package pgstore describes. Between
// any two steps replicas of both run, each saves, and all can read it: so any step can
// also be undone. sealAnew is what a program does for the third step.
func ReplaceKey(t *testing.T, s tokencache.Store, sealAnew func(ctx context.Context, c *tokencache.Cache, key tokencache.Key) error) {
	of := func(keys ...string) *tokencache.Cache {
		var all [][]byte
		for _, k := range keys {
			all = append(all, bytes.Repeat([]byte(k), 32))
		}
		c, err := tokencache.New(s, tokencache.KeyBytes(all...))
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	users := []string{"0", "1", "2", "3"}
	key := func(user string) tokencache.Key {
		return tokencache.Key{Issuer: "https://issuer.test", ClientID: "app", Account: user}
	}
	refresh := func(c *tokencache.Cache, user string) {
		t.Helper()
		r, v, err := c.Load(t.Context(), key(user))
		if errors.Is(err, tokencache.ErrNotFound) {
			r, err = &tokencache.Record{RefreshToken: "secret"}, nil
		}
		if err == nil {
			r.Generation++
			_, err = c.Save(t.Context(), key(user), r, v)
		}
		if err != nil {
			t.Errorf("user %s: %v", user, err)
		}
	}
	steps := []*tokencache.Cache{of("o"), of("o", "n"), of("n", "o"), of("n")}
	for _, user := range users {
		refresh(steps[0], user)
	}
	for i, next := range steps[1:] {
		if next == steps[3] {
			for _, user := range users {
				if err := sealAnew(t.Context(), steps[2], key(user)); err != nil {
					t.Fatal(err)
				}
			}
		}
		for j, user := range users[1:] { // Nobody is there for the first user all the time.
			both := []*tokencache.Cache{steps[i], next}
			refresh(both[j%2], user)
			refresh(both[(j+1)%2], user)
		}
	}
	for _, user := range users {
		if _, _, err := steps[3].Load(t.Context(), key(user)); err != nil {
			t.Errorf("user %s, when the old key is gone: %v", user, err)
		}
	}
}
