package storetest

import (
	"context"
	"slices"
	"testing"
	"time"

	"github.com/stayauth/stayauth/tokencache"
)

func list(t *testing.T, s tokencache.Store) {
	lister, ok := s.(tokencache.Lister)
	if !ok {
		t.Log("the store is no Lister")
		return
	}
	for name, err := range lister.List(t.Context(), "") {
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
	for name, err := range lister.List(t.Context(), "") {
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
	for range lister.List(t.Context(), "") {
		break // must not go on
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	var last error
	for _, err := range lister.List(ctx, "") {
		last = err
	}
	wantErr(t, "List with a context that is done", last, context.Canceled)
	listPrefix(t, s, lister)
}

func listPrefix(t *testing.T, s tokencache.Store, lister tokencache.Lister) {
	for _, name := range []string{"ann", "ann-home", "ann-work", "ann-work-2", "anna", "ANN-work", "bob-work"} {
		mustSave(t, s, name, nil, "")
	}
	var names []string
	for name, err := range lister.List(t.Context(), "ann-") {
		if err != nil {
			t.Fatal(err)
		}
		names = append(names, name)
	}
	if slices.Sort(names); !slices.Equal(names, []string{"ann-home", "ann-work", "ann-work-2"}) {
		t.Errorf("what begins with \"ann-\" is %q", names)
	}
	for range lister.List(t.Context(), "ann-") {
		break // must not go on
	}
	for name, err := range lister.List(t.Context(), "nobody-") {
		t.Errorf("lists %q, %v", name, err)
	}
}

// A tick is longer than the clocks of a store and of this process differ, and than a store
// rounds the times at which entries were saved.
const tick = 500 * time.Millisecond

func listIdle(t *testing.T, s tokencache.Store) {
	lister, ok := s.(tokencache.IdleLister)
	if !ok {
		t.Log("the store is no IdleLister")
		return
	}
	inAnHour := time.Now().Add(time.Hour)
	wantIdle := func(what string, before time.Time, want ...string) {
		t.Helper()
		missing := map[string]bool{}
		for _, name := range want {
			missing[name] = true
		}
		for name, err := range lister.ListIdle(t.Context(), before) {
			if err != nil {
				t.Fatalf("%s: %v", what, err)
			}
			if !missing[name] {
				t.Errorf("%s: lists %q, which is not idle, or was listed before", what, name)
			}
			delete(missing, name)
		}
		for name := range missing {
			t.Errorf("%s: does not list %q", what, name)
		}
	}
	wantIdle("an empty store", inAnHour)

	old := oddNames()
	versions := map[string]tokencache.Version{}
	for _, name := range append(old, "deleted", "saved again", "deleted and saved again") {
		versions[name] = mustSave(t, s, name, []byte("one"), "")
	}
	time.Sleep(tick)
	middle := time.Now()
	time.Sleep(tick)
	again := mustSave(t, s, "saved again", []byte("two"), versions["saved again"])
	mustSave(t, s, "new", nil, "")
	for _, name := range []string{"deleted", "deleted and saved again"} {
		if err := s.Delete(t.Context(), name, versions[name]); err != nil {
			t.Fatal(err)
		}
	}
	mustSave(t, s, "deleted and saved again", nil, "")
	all := append([]string{"saved again", "new", "deleted and saved again"}, old...)
	// None of these is a Save.
	_, err := s.Save(t.Context(), old[0], []byte("two"), again)
	wantErr(t, "Save with a wrong version", err, tokencache.ErrConflict)
	mustLoad(t, s, old[0])
	if p, ok := s.(tokencache.Preflighter); ok {
		if err := p.Preflight(t.Context(), old[0], 100); err != nil {
			t.Error(err)
		}
	}
	unlock := mustLock(t, s, old[0])
	wantIdle("in the middle", middle, old...)
	mustUnlock(t, unlock)
	mustUnlock(t, mustLock(t, s, "only locked"))
	wantIdle("in the middle", middle, old...)
	wantIdle("long before", middle.Add(-time.Hour))
	wantIdle("later", inAnHour, all...)

	// A caller that renews what is listed comes to an end.
	listed := 0
	for name, err := range lister.ListIdle(t.Context(), middle) {
		if err != nil {
			t.Fatal(err)
		}
		if listed++; listed > 2*len(old) {
			t.Fatalf("%q is listed although all were saved meanwhile", name)
		}
		if listed <= len(old) {
			versions[name] = mustSave(t, s, name, []byte("three"), versions[name])
		}
	}
	wantIdle("when all are renewed", middle)
	wantIdle("when all are renewed", inAnHour, all...)

	for range lister.ListIdle(t.Context(), inAnHour) {
		break // must not go on
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	var last error
	for _, err := range lister.ListIdle(ctx, inAnHour) {
		last = err
	}
	wantErr(t, "ListIdle with a context that is done", last, context.Canceled)
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
		for name, err := range lister.List(t.Context(), "") {
			if name != "a" || err != nil {
				t.Errorf("after Preflight the store lists %q, %v", name, err)
			}
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	wantErr(t, "Preflight with a context that is done", p.Preflight(ctx, "a", 1), context.Canceled)
}
