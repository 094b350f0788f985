package storetest

import (
	"context"
	"slices"
	"testing"

	"github.com/stayauth/stayauth/tokencache"
)

func list(t *testing.T, s tokencache.Store) {
	lister, ok := s.(tokencache.Lister)
	if !ok {
		t.Log("the store is no Lister")
		return
	}
	for name, err := range lister.List(t.Context()) {
		t.Errorf("an empty store lists %q, %v", name, err)
	}
	want := map[string]bool{}
	for _, name := range oddNames() {
		want[name] = true
		mustSave(t, s, name, nil, "")
	}
	v := mustSave(t, s, "deleted", nil, "")
	if err := s.Delete(t.Context(), "deleted", v); err != nil {
		t.Fatal(err)
	}
	mustUnlock(t, mustLock(t, s, "only locked"))
	for name, err := range lister.List(t.Context()) {
		if err != nil {
			t.Fatal(err)
		}
		if !want[name] {
			t.Errorf("lists %q, which is not there or was listed before", name)
		}
		delete(want, name)
	}
	for name := range want {
		t.Errorf("does not list %q", name)
	}
	for range lister.List(t.Context()) {
		break // must not go on
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	var last error
	for _, err := range lister.List(ctx) {
		last = err
	}
	wantErr(t, "List with a context that is done", last, context.Canceled)
	listPrefix(t, s)
}

func listPrefix(t *testing.T, s tokencache.Store) {
	lister, ok := s.(tokencache.PrefixLister)
	if !ok {
		t.Log("the store is no PrefixLister")
		return
	}
	for _, name := range []string{"ann", "ann-home", "ann-work", "ann-work-2", "anna", "ANN-work", "bob-work"} {
		mustSave(t, s, name, nil, "")
	}
	var names []string
	for name, err := range lister.ListPrefix(t.Context(), "ann-") {
		if err != nil {
			t.Fatal(err)
		}
		names = append(names, name)
	}
	if slices.Sort(names); !slices.Equal(names, []string{"ann-home", "ann-work", "ann-work-2"}) {
		t.Errorf("what begins with \"ann-\" is %q", names)
	}
	for range lister.ListPrefix(t.Context(), "ann-") {
		break // must not go on
	}
	for name, err := range lister.ListPrefix(t.Context(), "nobody-") {
		t.Errorf("lists %q, %v", name, err)
	}
}

func preflight(t *testing.T, s tokencache.Store) {
	p, ok := s.(tokencache.Preflighter)
	if !ok {
		t.Log("the store is no Preflighter")
		return
	}
	for _, size := range []int{0, 1, 64 << 10} {
		if err := p.Preflight(t.Context(), "a", size); err != nil {
			t.Errorf("Preflight of %d bytes: %v", size, err)
		}
	}
	_, _, err := s.Load(t.Context(), "a")
	wantErr(t, "Load after Preflight of an absent entry", err, tokencache.ErrNotFound)
	v := mustSave(t, s, "a", []byte("one"), "")
	if err := p.Preflight(t.Context(), "a", 10_000); err != nil {
		t.Error(err)
	}
	if data, after := mustLoad(t, s, "a"); string(data) != "one" || after != v {
		t.Errorf("Preflight changed the entry to %q at %q", data, after)
	}
	if lister, ok := s.(tokencache.Lister); ok {
		for name, err := range lister.List(t.Context()) {
			if name != "a" || err != nil {
				t.Errorf("after Preflight the store lists %q, %v", name, err)
			}
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	wantErr(t, "Preflight with a context that is done", p.Preflight(ctx, "a", 1), context.Canceled)
}
