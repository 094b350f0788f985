package tokencache_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stayauth/stayauth/tokencache"
)

// What is newer wins, whichever way it comes: an import that is done with an old file, or twice,
// takes no login back to a refresh token that was spent.
func TestImportNeverReplacesSomethingNewer(t *testing.T) {
	key := tokencache.Key{Issuer: "https://as.test", ClientID: "client", Account: "ann"}
	noon := time.Date(2026, 11, 29, 12, 0, 0, 0, time.UTC)
	rec := func(login string, at time.Time, generation uint64, dead bool) *tokencache.Record {
		r := &tokencache.Record{Key: key, LoginID: login, AuthorizedAt: at, Generation: generation,
			RefreshToken: tokencache.Secret(fmt.Sprintf("%s-%d-%t", login, generation, dead))}
		if dead {
			r.Tombstone = &tokencache.Tombstone{Code: "invalid_grant"}
		}
		return r
	}
	for _, tt := range []struct {
		name   string
		stored *tokencache.Record // nil: nothing
		brings *tokencache.Record
		wins   bool
	}{
		{"nothing is stored", nil, rec("a", noon, 3, false), true},
		{"an older generation is stored", rec("a", noon, 2, false), rec("a", noon, 3, false), true},
		{"the same is stored", rec("a", noon, 3, false), rec("a", noon, 3, false), false},
		{"a newer generation is stored", rec("a", noon, 4, false), rec("a", noon, 3, false), false},
		{"it is known to be dead", rec("a", noon, 3, true), rec("a", noon, 3, false), false},
		{"a later generation is known to be dead", rec("a", noon, 4, true), rec("a", noon, 3, false), false},
		{"an earlier generation is known to be dead", rec("a", noon, 2, true), rec("a", noon, 3, false), true},
		{"a newer login is stored", rec("b", noon.Add(time.Second), 1, false), rec("a", noon, 9, false), false},
		{"an older login is stored", rec("b", noon.Add(-time.Second), 9, false), rec("a", noon, 1, false), true},
		{"another login of the same time is stored", rec("b", noon, 1, false), rec("a", noon, 1, false), false},
		{"a newer login is dead", rec("b", noon.Add(time.Second), 1, true), rec("a", noon, 9, false), false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			cache := memoryCache(t)
			want := tt.brings
			if tt.stored != nil {
				if _, err := cache.Save(t.Context(), key, tt.stored, ""); err != nil {
					t.Fatal(err)
				}
				if !tt.wins {
					want = tt.stored
				}
			}
			for try := range 2 {
				imported, kept, err := cache.Import(t.Context(), list(tt.brings))
				if wins := tt.wins && try == 0; err != nil || imported+kept != 1 || (imported == 1) != wins {
					t.Errorf("imported %d, kept %d, %v", imported, kept, err)
				}
				if got, _, err := cache.Load(t.Context(), key); err != nil || got.RefreshToken != want.RefreshToken || (got.Tombstone == nil) != (want.Tombstone == nil) {
					t.Errorf("stored: %+v, %v", got, err)
				}
			}
		})
	}
}

// Logins move from one cache straight to another, sealed with another key, and nothing of them
// is lost.
func TestImportFromAnotherCache(t *testing.T) {
	from := memoryCache(t)
	to, err := openRekeyCache(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	for i := range 20 {
		r := &tokencache.Record{LoginID: fmt.Sprint("login-", i), Generation: 7, RefreshToken: "rt", Extra: map[string]tokencache.Secret{"team": "x"}}
		if _, err := from.Save(t.Context(), account(i), r, ""); err != nil {
			t.Fatal(err)
		}
	}
	if imported, kept, err := to.Import(t.Context(), from.List(t.Context())); imported != 20 || kept != 0 || err != nil {
		t.Fatalf("imported %d, kept %d, %v", imported, kept, err)
	}
	for i := range 20 {
		r, _, err := to.Load(t.Context(), account(i))
		if err != nil || r.LoginID != fmt.Sprint("login-", i) || r.Generation != 7 || r.Extra["team"] != "x" {
			t.Errorf("%d: %v, %v", i, r, err)
		}
	}
}

// One entry that cannot be read is told, left alone, and holds up no other.
func TestImportLeavesWhatItCannotRead(t *testing.T) {
	store := new(tokencache.Memory)
	cache, err := tokencache.New(store, nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := store.Save(t.Context(), account(1).Name(), []byte("?"), ""); err != nil {
		t.Fatal(err)
	}
	unreadable := fmt.Errorf("entry 4: %w", tokencache.ErrCorrupt)
	records := func(yield func(*tokencache.Record, error) bool) {
		_ = yield(&tokencache.Record{Key: account(1)}, nil) && yield(nil, unreadable) && yield(&tokencache.Record{Key: account(2)}, nil)
	}
	imported, kept, err := cache.Import(t.Context(), records)
	if imported != 1 || kept != 0 || !errors.Is(err, unreadable) || !strings.Contains(err.Error(), account(1).Name()) {
		t.Errorf("imported %d, kept %d, %v", imported, kept, err)
	}
	if data, _, _ := store.Load(t.Context(), account(1).Name()); string(data) != "?" {
		t.Errorf("the damaged entry now holds %q", data)
	}
}

// An import that is interrupted says how far it has come, and the next one completes it.
func TestImportInterrupted(t *testing.T) {
	cache := memoryCache(t)
	var all []*tokencache.Record
	for i := range 5 {
		all = append(all, &tokencache.Record{Key: account(i), LoginID: "a", Generation: 1})
	}
	ctx, cancel := context.WithCancel(t.Context())
	interrupted := func(yield func(*tokencache.Record, error) bool) {
		for i, r := range all {
			if i == 3 {
				cancel()
			}
			if !yield(r, nil) {
				return
			}
		}
	}
	if imported, kept, err := cache.Import(ctx, interrupted); imported != 3 || kept != 0 || !errors.Is(err, context.Canceled) {
		t.Errorf("imported %d, kept %d, %v", imported, kept, err)
	}
	if imported, kept, err := cache.Import(t.Context(), list(all...)); imported != 2 || kept != 3 || err != nil {
		t.Errorf("imported %d, kept %d, %v", imported, kept, err)
	}
}

// An import waits for whoever works on a login, and does not overwrite what that one saves. Nor
// does it overwrite what somebody saves without the lock.
func TestImportBesideARefresh(t *testing.T) {
	inner := new(tokencache.Memory)
	store := &busyStore{Memory: inner}
	cache, err := tokencache.New(store, nil)
	if err != nil {
		t.Fatal(err)
	}
	other, err := tokencache.New(inner, nil)
	if err != nil {
		t.Fatal(err)
	}
	v, err := other.Save(t.Context(), account(1), &tokencache.Record{LoginID: "a", Generation: 1}, "")
	if err != nil {
		t.Fatal(err)
	}
	store.beforeSave = func() { // generation 3, while the import of generation 2 is between load and save
		if _, err := other.Save(t.Context(), account(1), &tokencache.Record{LoginID: "a", Generation: 3}, v); err != nil {
			t.Error(err)
		}
	}
	imported, kept, err := cache.Import(t.Context(), list(&tokencache.Record{Key: account(1), LoginID: "a", Generation: 2}))
	if imported != 0 || kept != 1 || err != nil {
		t.Errorf("imported %d, kept %d, %v", imported, kept, err)
	}
	if !slices.Equal(store.locked, []string{account(1).Name()}) {
		t.Errorf("the import has locked %q", store.locked)
	}
}

type busyStore struct {
	*tokencache.Memory
	locked     []string
	beforeSave func()
}

func (s *busyStore) Lock(ctx context.Context, name string) (func() error, error) {
	s.locked = append(s.locked, name)
	return s.Memory.Lock(ctx, name)
}

func (s *busyStore) Save(ctx context.Context, name string, data []byte, old tokencache.Version) (tokencache.Version, error) {
	if f := s.beforeSave; f != nil {
		s.beforeSave = nil
		f()
	}
	return s.Memory.Save(ctx, name, data, old)
}

func list(records ...*tokencache.Record) func(func(*tokencache.Record, error) bool) {
	return func(yield func(*tokencache.Record, error) bool) {
		for _, r := range records {
			if !yield(r, nil) {
				return
			}
		}
	}
}

func memoryCache(t *testing.T) *tokencache.Cache {
	t.Helper()
	cache, err := tokencache.New(new(tokencache.Memory), nil)
	if err != nil {
		t.Fatal(err)
	}
	return cache
}

// Whoever imports logins has decided that they live here from now on, also where a restored
// backup of the same logins is. But the import of a copy decides nothing.
func TestImportAndCopies(t *testing.T) {
	cacheOn := func(store *placedStore) *tokencache.Cache {
		cache, err := tokencache.New(store, nil)
		if err != nil {
			t.Fatal(err)
		}
		return cache
	}
	live := &placedStore{place: place{id: "production"}}
	production := cacheOn(live)
	for i := range 3 {
		saveAt(t, production, account(i), &tokencache.Record{LoginID: "a", Generation: 5}, "")
	}
	restored := cacheOn(live.copyTo(t, place{id: "restored"}))
	// In the copy, one login is dead, and one is newer than in production.
	dead, v := loadAt(t, restored, account(0))
	dead.Tombstone = new(tokencache.Tombstone)
	saveAt(t, restored, account(0), dead, v)
	newer, v := loadAt(t, restored, account(1))
	newer.Generation = 6
	saveAt(t, restored, account(1), newer, v)

	elsewhere := cacheOn(&placedStore{place: place{id: "elsewhere"}})
	if imported, kept, err := elsewhere.Import(t.Context(), restored.List(t.Context())); imported != 3 || kept != 0 || err != nil {
		t.Fatalf("imported %d, kept %d, %v", imported, kept, err)
	}
	for i := range 3 {
		if r, _ := loadAt(t, elsewhere, account(i)); !r.IsCopy() {
			t.Errorf("login %d, imported from a copy, is at home", i)
		}
	}
	for try := range 2 {
		imported, kept, err := restored.Import(t.Context(), production.List(t.Context()))
		if imported != 1-try || kept != 2+try || err != nil {
			t.Fatalf("imported %d, kept %d, %v", imported, kept, err)
		}
		for i, copied := range []bool{true, true, false} {
			if r, _ := loadAt(t, restored, account(i)); r.IsCopy() != copied {
				t.Errorf("login %d is a copy: %t, want %t", i, !copied, copied)
			}
		}
	}
}
