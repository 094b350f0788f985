package tokencache

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"testing"
	"time"
)

// withTargets returns a login with its own token and those of some targets, as they are stored.
func withTargets(targets ...string) *Record {
	at := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	r := &Record{LoginID: "login", Generation: 7, RefreshToken: "refresh", AccessToken: "own", TokenType: "Bearer", Scope: "own-scope",
		ObtainedAt: at, Expiry: time.Date(2999, 1, 1, 0, 0, 0, 0, time.UTC)}
	for i, target := range targets {
		r.Select(target)
		r.AccessToken, r.Scope = Secret("at-"+target), target+"-scope"
		r.ObtainedAt = at.Add(time.Duration(i+1) * time.Minute)
	}
	r.Select("")
	return r
}

func reloaded(t *testing.T, r *Record) *Record {
	t.Helper()
	data, err := encodeRecord(r)
	if err != nil {
		t.Fatal(err)
	}
	again, err := decodeRecord(data)
	if err != nil {
		t.Fatal(err)
	}
	return again
}

// One record holds a token for each target, and whichever is selected when it is saved, each is
// where it belongs when it is loaded (C33, C98).
func TestATokenForEachTarget(t *testing.T) {
	want := withTargets("a", "b")
	for _, selected := range []string{"", "a", "b", "c"} {
		r := want.Clone()
		r.Select(selected)
		r = reloaded(t, r)
		if !reflect.DeepEqual(r, want) {
			t.Errorf("saved with %q selected: %#v, want %#v", selected, r, want)
		}
		for target, token := range map[string]Secret{"": "own", "a": "at-a", "b": "at-b", "c": ""} {
			if r.Select(target); r.AccessToken != token || r.RefreshToken != "refresh" || r.Generation != 7 {
				t.Errorf("target %q has token %q", target, string(r.AccessToken))
			}
			if token == "" && (r.Scope != "" || r.TokenType != "" || !r.Expiry.IsZero() || !r.ObtainedAt.IsZero()) {
				t.Errorf("a target without a token has something of another one: %#v", r)
			}
			if !r.RenewedAt().Equal(want.ObtainedAt.Add(2 * time.Minute)) {
				t.Errorf("renewed at %v", r.RenewedAt())
			}
		}
	}
	if want.AccessToken != "own" {
		t.Error("a clone has changed its original")
	}
}

// An earlier version finds a record with the login's own token in it, and one without further
// targets is as it always was.
func TestWhatEarlierVersionsReadOfTargets(t *testing.T) {
	members := func(r *Record) (m map[string]any) {
		data, err := encodeRecord(r)
		if err != nil || json.Unmarshal(data, &m) != nil {
			t.Fatal(err)
		}
		return m
	}
	plain := members(withTargets())
	r := withTargets("a", "b")
	r.Select("a")
	with := members(r)
	delete(with, "targets")
	if !reflect.DeepEqual(with, plain) || plain["v"] != 1.0 {
		t.Errorf("beside the targets there is %v, want %v", with, plain)
	}
	r = withTargets()
	r.Select("a")
	if r.Select(""); !reflect.DeepEqual(r, withTargets()) {
		t.Errorf("nothing of another target remains: %#v", r)
	}
}

// Another login may be that of another user: it has nothing of the one before, whoever made it
// from a record of that.
func TestANewLoginHasNoTokensOfTheLast(t *testing.T) {
	r := withTargets("a")
	r.LoginID = "another"
	r = reloaded(t, r)
	if r.Select("a"); r.AccessToken != "" {
		t.Error("the token of the last login is used")
	}
	data, err := encodeRecord(withTargets("a"))
	if err != nil {
		t.Fatal(err)
	}
	var m map[string]any // as an earlier version saves a new login over what it does not know
	json.Unmarshal(data, &m)
	m["grant"] = "another"
	data, _ = json.Marshal(m)
	if r, err = decodeRecord(data); err != nil {
		t.Fatal(err)
	}
	if r.Select("a"); r.AccessToken != "" || r.RefreshToken == "" {
		t.Error("the token of the last login is used")
	}
}

// The refusal of one token is not that of the refresh token.
func TestTombstoneOfATarget(t *testing.T) {
	r := withTargets("a", "b")
	r.Select("a")
	r.Tombstone = &Tombstone{Code: "consent_required", Target: "a"}
	r = reloaded(t, r)
	for _, target := range []string{"", "b", "a", "", "a", "b"} {
		if r.Select(target); (r.Tombstone != nil) != (target == "a") {
			t.Errorf("target %q has the tombstone %v", target, r.Tombstone)
		}
	}
	r.Tombstone = &Tombstone{Code: "invalid_grant"}
	r = reloaded(t, r)
	for _, target := range []string{"", "a", "b"} {
		if r.Select(target); r.Tombstone == nil || r.Tombstone.Code != "invalid_grant" {
			t.Errorf("a dead refresh token counts for all, not only for %q: %v", target, r.Tombstone)
		}
	}
}

// What has expired is not kept, nor is any number of tokens: a record must fit into any store.
func TestTokensOfTargetsAreBounded(t *testing.T) {
	var many []string
	for i := range 3 * maxTargets {
		many = append(many, fmt.Sprintf("%03d", i))
	}
	r := withTargets(many...)
	r.Select("005")
	r.Expiry = time.Now().Add(-time.Second)
	r = reloaded(t, r)
	kept := slices.Sorted(maps.Keys(r.others()))
	if !slices.Equal(kept, many[2*maxTargets:]) || r.AccessToken != "own" {
		t.Errorf("kept %v", kept)
	}
	r = withTargets("a", "b")
	r.Select("a")
	r.Expiry = time.Now().Add(-time.Second)
	if r = reloaded(t, r); !slices.Equal(slices.Collect(maps.Keys(r.others())), []string{"b"}) {
		t.Errorf("kept %v", r.others())
	}
}

// A narrow store has little room, and says so only by an error.
type narrow struct {
	Memory
	room int
}

func (n *narrow) Save(ctx context.Context, name string, data []byte, old Version) (Version, error) {
	if err := n.Preflight(ctx, name, len(data)); err != nil {
		return "", err
	}
	return n.Memory.Save(ctx, name, data, old)
}

func (n *narrow) Preflight(_ context.Context, _ string, size int) error {
	if size > n.room {
		return errors.New("too big")
	}
	return nil
}

// If the tokens of all targets are too much for a store, the login and the token that was just
// obtained come first: the others cost a refresh each, and nothing is lost.
func TestTokensOfTargetsMakeRoomForTheLogin(t *testing.T) {
	cache, err := New(&narrow{room: 900}, nil)
	if err != nil {
		t.Fatal(err)
	}
	key := Key{Issuer: "https://as.test", ClientID: "client"}
	var v Version
	for _, selected := range []string{"a", "", "b"} {
		r := withTargets("a", "b")
		for _, target := range []string{"", "a", "b"} {
			r.Select(target)
			r.AccessToken += Secret(make([]byte, 300/6)) // six bytes each in JSON
		}
		if r.Select(selected); cache.Preflight(t.Context(), key, r) != nil {
			t.Fatalf("%q: it does not fit", selected)
		}
		if v, err = cache.Save(t.Context(), key, r, v); err != nil {
			t.Fatal(err)
		}
		got, _, err := cache.Load(t.Context(), key)
		if err != nil || got.RefreshToken != "refresh" || got.LoginID != "login" || got.Generation != 7 {
			t.Fatalf("%q: %v, %v", selected, got, err)
		}
		for _, target := range []string{"", "a", "b"} {
			if got.Select(target); (got.AccessToken != "") != (target == selected) {
				t.Errorf("%q selected: target %q has a token: %v", selected, target, got.AccessToken != "")
			}
		}
	}
	if _, err := cache.Save(t.Context(), key, withTargets("a"), "other"); !errors.Is(err, ErrConflict) {
		t.Errorf("got %v, want a conflict", err)
	}
}

// However often and in whatever order tokens are selected, replaced and saved, none is found
// where another one belongs.
func FuzzSelect(f *testing.F) {
	f.Add([]byte{0, 1, 2, 9, 17, 3, 0, 1})
	f.Fuzz(func(t *testing.T, steps []byte) {
		names := []string{"", "a", "resource=https%3A%2F%2Fb", "c"}
		want := map[string]Secret{"": "first"}
		r := &Record{LoginID: "login", RefreshToken: "refresh", AccessToken: "first"}
		for i, step := range steps[:min(len(steps), 100)] {
			selected := names[step%4]
			r.Select(selected)
			if r.AccessToken != want[selected] || r.RefreshToken != "refresh" {
				t.Fatalf("step %d: %q has %q, want %q", i, selected, string(r.AccessToken), string(want[selected]))
			}
			switch step / 4 % 4 {
			case 1:
				r.AccessToken = Secret(fmt.Sprintf("%s-%d", selected, i))
				want[selected] = r.AccessToken
			case 2:
				r = reloaded(t, r)
			case 3:
				r = r.Clone()
				r.Clone().Select(names[i%4])
			}
		}
	})
}
