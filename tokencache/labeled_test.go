package tokencache_test

import (
	"context"
	"fmt"
	"iter"
	"slices"
	"strings"
	"testing"

	"github.com/stayauth/stayauth/tokencache"
)

// A countingStore counts what is loaded.
type countingStore struct {
	tokencache.Memory
	loads int
}

func (c *countingStore) Load(ctx context.Context, name string) ([]byte, tokencache.Version, error) {
	c.loads++
	return c.Memory.Load(ctx, name)
}

// W38: of a hundred thousand logins, those of one user are found, and no others are opened.
func TestLabeledOpensNoOthers(t *testing.T) {
	store := new(countingStore)
	cache, err := tokencache.New(store, nil)
	if err != nil {
		t.Fatal(err)
	}
	save := func(k tokencache.Key) {
		if _, err := cache.Save(t.Context(), k, &tokencache.Record{RefreshToken: "r"}, ""); err != nil {
			t.Fatal(err)
		}
	}
	many := 100_000
	if testing.Short() {
		many = 1000
	}
	for i := range many {
		save(tokencache.Key{Issuer: "i", ClientID: "c", Account: fmt.Sprint(i)}.WithLabel("work"))
	}
	ann := tokencache.Key{Issuer: "i", ClientID: "c", Account: "ann"}
	save(ann)
	for _, label := range []string{"work", "home", "club"} {
		save(ann.WithLabel(label))
	}
	save(tokencache.Key{Issuer: "i", ClientID: "other", Account: "ann"}.WithLabel("work"))
	var found []string
	for rec, err := range cache.Labeled(t.Context(), ann) {
		if err != nil {
			t.Fatal(err)
		}
		account, label := rec.Key.Label()
		found = append(found, account+":"+label)
	}
	if slices.Sort(found); strings.Join(found, " ") != "ann:club ann:home ann:work" || store.loads != 3 {
		t.Errorf("found %q with %d loads", found, store.loads)
	}
}

// A prefixStore answers by itself what begins with a prefix.
type prefixStore struct{ tokencache.Memory }

func (p *prefixStore) List(ctx context.Context, prefix string) iter.Seq2[string, error] {
	if prefix == "" {
		panic("everything is listed")
	}
	return p.Memory.List(ctx, prefix)
}

func TestLabeledAsksForItsPrefix(t *testing.T) {
	cache, err := tokencache.New(new(prefixStore), nil)
	if err != nil {
		t.Fatal(err)
	}
	ann := tokencache.Key{Account: "ann"}
	if _, err := cache.Save(t.Context(), ann.WithLabel("work"), &tokencache.Record{}, ""); err != nil {
		t.Fatal(err)
	}
	n := 0
	for _, err := range cache.Labeled(t.Context(), ann) {
		if n++; err != nil {
			t.Error(err)
		}
	}
	if n != 1 {
		t.Errorf("%d found", n)
	}
}
