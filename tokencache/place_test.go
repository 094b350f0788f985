package tokencache_test

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stayauth/stayauth/testdata/realparts"
	"github.com/stayauth/stayauth/tokencache"
)

// A placedStore is a Memory that knows its place, or why it does not.
type placedStore struct {
	tokencache.Memory
	place place
	err   error
}

type place struct{ id, name string }

func (s *placedStore) Place(context.Context) (id, name string, err error) {
	return s.place.id, s.place.name, s.err
}

// copyTo copies all entries of s, as a backup or a clone does, into an empty store.
func (s *placedStore) copyTo(t *testing.T, at place) *placedStore {
	t.Helper()
	clone := &placedStore{place: at}
	for name, err := range s.List(t.Context(), "") {
		data, _, lerr := s.Load(t.Context(), name)
		_, serr := clone.Save(t.Context(), name, data, "")
		if err := errors.Join(err, lerr, serr); err != nil {
			t.Fatal(err)
		}
	}
	return clone
}

func loadAt(t *testing.T, c *tokencache.Cache, key tokencache.Key) (*tokencache.Record, tokencache.Version) {
	t.Helper()
	r, v, err := c.Load(t.Context(), key)
	if err != nil {
		t.Fatal(err)
	}
	return r, v
}

func saveAt(t *testing.T, c *tokencache.Cache, key tokencache.Key, r *tokencache.Record, old tokencache.Version) tokencache.Version {
	t.Helper()
	v, err := c.Save(t.Context(), key, r, old)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// keyOf returns the key of one of several accounts.
func keyOf(name string) tokencache.Key {
	k := testKey
	k.Account = name
	return k
}

// Only what is known to have been saved elsewhere is a copy (F7). Nothing that is merely unknown
// raises an alarm.
func TestOnlyWhatWasSavedElsewhereIsACopy(t *testing.T) {
	for name, tt := range map[string]struct {
		saved, found place
		copied       bool
	}{
		"the same":                        {place{id: "a"}, place{id: "a"}, false},
		"restored or cloned":              {place{id: "a"}, place{id: "b"}, true},
		"saved without a place":           {place{}, place{id: "b"}, false},
		"found without a place":           {place{id: "a"}, place{}, false},
		"a name and nothing else":         {place{name: "production"}, place{name: "staging"}, true},
		"the same name":                   {place{name: "production"}, place{name: "production"}, false},
		"a name beside what differs":      {place{id: "a", name: "production"}, place{id: "b", name: "production"}, false},
		"a physical copy":                 {place{id: "a", name: "production"}, place{id: "a", name: "staging"}, true},
		"named since":                     {place{id: "a"}, place{id: "a", name: "production"}, false},
		"a process that knows no name":    {place{id: "a", name: "production"}, place{id: "a"}, false},
		"copied, and named since":         {place{id: "a"}, place{id: "b", name: "production"}, true},
		"a name here and an ID elsewhere": {place{id: "a"}, place{name: "production"}, false},
	} {
		t.Run(name, func(t *testing.T) {
			store := &placedStore{place: tt.saved}
			saveAt(t, newCache(t, store, tokencache.KeyBytes(bytesKey(1))), testKey, testRecord(), "")
			c := newCache(t, store.copyTo(t, tt.found), tokencache.KeyBytes(bytesKey(1)))
			r, _ := loadAt(t, c, testKey)
			if r.IsCopy() != tt.copied {
				t.Errorf("it is a copy: %t, want %t", r.IsCopy(), tt.copied)
			}
			for listed, err := range c.List(t.Context()) {
				if err != nil || listed.IsCopy() != tt.copied {
					t.Errorf("listed as a copy: %t, want %t; %v", listed.IsCopy(), tt.copied, err)
				}
			}
		})
	}
}

// A store that cannot tell its place now has the one that it had, and if it never told one,
// nothing is held against its records.
func TestAPlaceThatIsNotKnownNowIsNoAlarm(t *testing.T) {
	store := &placedStore{place: place{id: "a"}}
	v := saveAt(t, newCache(t, store, nil), testKey, testRecord(), "")
	store.err = tokencache.ErrUnavailable
	c := newCache(t, store, nil)
	if r, _ := loadAt(t, c, testKey); r.IsCopy() {
		t.Error("a copy, although nothing is known")
	}
	store.err = nil
	loadAt(t, c, testKey)
	store.err = tokencache.ErrUnavailable
	if r, _ := loadAt(t, c, testKey); r.IsCopy() {
		t.Error("a copy, although nothing has changed")
	}
	saveAt(t, c, testKey, testRecord(), v)
	store.err = nil
	if r, _ := loadAt(t, newCache(t, store, nil), testKey); r.IsCopy() {
		t.Error("what was saved meanwhile is a copy")
	}
	if r, _ := loadAt(t, newCache(t, store.copyTo(t, place{id: "b"}), nil), testKey); !r.IsCopy() {
		t.Error("what was saved meanwhile has no place")
	}
}

// Whoever saves a copy, for whatever reason, has not decided anything.
func TestASavedCopyIsStillACopy(t *testing.T) {
	store := &placedStore{place: place{id: "a"}}
	saveAt(t, newCache(t, store, nil), testKey, testRecord(), "")
	c := newCache(t, store.copyTo(t, place{id: "b"}), nil)
	r, v := loadAt(t, c, testKey)
	v = saveAt(t, c, testKey, r.Clone(), v)
	if r, _ = loadAt(t, c, testKey); !r.IsCopy() {
		t.Error("saved again, it is at home")
	}
	r.Copy = nil // a new login
	saveAt(t, c, testKey, r, v)
	if r, _ = loadAt(t, c, testKey); r.IsCopy() {
		t.Error("a new login is a copy")
	}
}

// What was adopted is at home, in every process and for ever, but a copy of that is a copy again.
// The records themselves are not written.
func TestAdopt(t *testing.T) {
	keys := tokencache.KeyBytes(bytesKey(1))
	store := &placedStore{place: place{id: "a"}}
	for _, name := range []string{"ann", "bob"} {
		saveAt(t, newCache(t, store, keys), keyOf(name), testRecord(), "")
	}
	restored := store.copyTo(t, place{id: "b", name: "restored"})
	c, other := newCache(t, restored, keys), newCache(t, restored, keys)
	vOwn := saveAt(t, c, keyOf("own"), testRecord(), "")
	_, before := loadAt(t, other, keyOf("ann"))
	if n, err := c.Adopt(t.Context()); n != 2 || err != nil {
		t.Fatalf("adopted %d, %v; want 2", n, err)
	}
	for _, c := range []*tokencache.Cache{c, other, newCache(t, restored, keys)} {
		r, v := loadAt(t, c, keyOf("ann"))
		if r.IsCopy() || r.Copy == nil || time.Since(r.Copy.AdoptedAt) > time.Minute || v != before {
			t.Errorf("after Adopt: %+v, version %q instead of %q", r.Copy, v, before)
		}
		if n, err := c.Adopt(t.Context()); n != 0 || err != nil {
			t.Errorf("again: %d, %v", n, err)
		}
		if r, v := loadAt(t, c, keyOf("own")); r.Copy != nil || v != vOwn {
			t.Errorf("a record that was saved here: %+v, %q", r.Copy, v)
		}
	}
	var accounts []string
	for r, err := range c.List(t.Context()) {
		if err != nil {
			t.Fatal(err)
		}
		accounts = append(accounts, r.Key.Account)
	}
	if slices.Sort(accounts); !slices.Equal(accounts, []string{"ann", "bob", "own"}) {
		t.Errorf("listed %q", accounts)
	}
	// One has been saved since, and says that it was adopted until it is renewed.
	r, v := loadAt(t, c, keyOf("ann"))
	saveAt(t, c, keyOf("ann"), r, v)
	if again, _ := loadAt(t, c, keyOf("ann")); again.IsCopy() || again.Copy == nil || !again.Copy.AdoptedAt.Equal(r.Copy.AdoptedAt) {
		t.Errorf("saved after Adopt: %+v", again.Copy)
	}
	further := newCache(t, restored.copyTo(t, place{id: "c", name: "staging"}), keys)
	for _, name := range []string{"ann", "bob", "own"} {
		if r, _ := loadAt(t, further, keyOf(name)); !r.IsCopy() {
			t.Errorf("a copy of what was adopted: %s is at home", name)
		}
	}
	if n, err := further.Adopt(t.Context()); n != 3 || err != nil {
		t.Errorf("adopted %d of those, %v; want 3", n, err)
	}
	if r, _ := loadAt(t, further, keyOf("bob")); r.IsCopy() {
		t.Error("not adopted")
	}
	if r, _ := loadAt(t, c, keyOf("bob")); r.IsCopy() {
		t.Error("adopting elsewhere has changed what was adopted here")
	}
}

// Discard deletes the copies and nothing else.
func TestDiscard(t *testing.T) {
	store := &placedStore{place: place{id: "a"}}
	for _, name := range []string{"ann", "bob", "cid"} {
		saveAt(t, newCache(t, store, nil), keyOf(name), testRecord(), "")
	}
	clone := store.copyTo(t, place{id: "b"})
	c := newCache(t, clone, nil)
	saveAt(t, c, keyOf("own"), testRecord(), "")
	_, v := loadAt(t, c, keyOf("ann"))
	saveAt(t, c, keyOf("ann"), testRecord(), v) // has logged in here since
	if n, err := c.Discard(t.Context()); n != 2 || err != nil {
		t.Fatalf("discarded %d, %v; want 2", n, err)
	}
	for name, want := range map[string]error{"ann": nil, "own": nil, "bob": tokencache.ErrNotFound, "cid": tokencache.ErrNotFound} {
		if _, _, err := c.Load(t.Context(), keyOf(name)); !errors.Is(err, want) {
			t.Errorf("%s: %v, want %v", name, err, want)
		}
		if _, _, err := newCache(t, store, nil).Load(t.Context(), keyOf(name)); name != "own" && err != nil {
			t.Errorf("%s in the store itself: %v", name, err)
		}
	}
}

// Adopt and Discard go on when a record cannot be read, and say so.
func TestDecisionsGoOnWhenARecordIsDamaged(t *testing.T) {
	for name, decide := range map[string]func(*tokencache.Cache, context.Context) (int, error){"Adopt": (*tokencache.Cache).Adopt, "Discard": (*tokencache.Cache).Discard} {
		store := &placedStore{place: place{id: "a"}}
		saveAt(t, newCache(t, store, nil), keyOf("ann"), testRecord(), "")
		clone := store.copyTo(t, place{id: "b"})
		if _, err := clone.Save(t.Context(), "damaged", []byte("?"), ""); err != nil {
			t.Fatal(err)
		}
		n, err := decide(newCache(t, clone, nil), t.Context())
		if n != 1 {
			t.Errorf("%s: %d records, want 1", name, n)
		}
		wantErr(t, err, tokencache.ErrCorrupt, "damaged")
	}
}

// A new sealing key does not undo a decision.
func TestAdoptionsSurviveRekey(t *testing.T) {
	path := filepath.Join(t.TempDir(), "key")
	store := &placedStore{place: place{id: "a"}}
	saveAt(t, newCache(t, store, tokencache.KeyFile(path)), testKey, testRecord(), "")
	restored := store.copyTo(t, place{id: "b"})
	c := newCache(t, restored, tokencache.KeyFile(path))
	if _, err := c.Adopt(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := c.Rekey(t.Context()); err != nil {
		t.Fatal(err)
	}
	if r, _ := loadAt(t, newCache(t, restored, tokencache.KeyFile(path)), testKey); r.IsCopy() {
		t.Error("a copy again")
	}
}

// A directory is the same after a restart and under another name, and a copy of it is not,
// however it is made.
func TestPlaceOfADir(t *testing.T) {
	base := t.TempDir()
	path := filepath.Join(base, "logins")
	keys := tokencache.KeyBytes(bytesKey(1))
	open := func(path string) *tokencache.Cache { return newCache(t, openDir(t, path), keys) }
	id, _, err := openDir(t, path).Place(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if id == "" {
		t.Logf("the file system of %s has no place", base)
		return
	}
	v := saveAt(t, open(path), testKey, testRecord(), "")
	at := func(what, path string, copied bool) {
		t.Helper()
		if r, _ := loadAt(t, open(path), testKey); r.IsCopy() != copied {
			t.Errorf("%s: a copy is %t, want %t", what, r.IsCopy(), copied)
		}
	}
	at("opened again", path, false)
	copied := filepath.Join(base, "copied")
	if err := os.CopyFS(copied, os.DirFS(path)); err != nil {
		t.Fatal(err)
	}
	if runtime.GOOS != "windows" { // which checks no modes
		os.Chmod(copied, 0o700)
		os.Chmod(filepath.Join(copied, "entries"), 0o700)
		os.Chmod(filepath.Join(copied, "locks"), 0o700)
	}
	at("copied", copied, true)
	if runtime.GOOS != "windows" {
		t.Run("with all its times", func(t *testing.T) {
			_, err := exec.LookPath("cp")
			realparts.Require(t, "cp", err)
			again := filepath.Join(base, "cp")
			if out, err := exec.Command("cp", "-a", path, again).CombinedOutput(); err != nil {
				t.Fatalf("%v: %s", err, out)
			}
			at("copied with all its times", again, true)
		})
	}
	renamed := filepath.Join(base, "renamed")
	if err := os.Rename(path, renamed); err != nil {
		t.Fatal(err)
	}
	at("renamed", renamed, false)
	saveAt(t, open(renamed), testKey, testRecord(), v)
	at("renamed and saved", renamed, false)
}

// What the earliest versions have saved is at home where an update finds it, and has a place from
// its next save on.
func TestRecordsOfEarlierVersionsGetAPlace(t *testing.T) {
	base := t.TempDir()
	path := filepath.Join(base, "logins")
	if err := os.CopyFS(path, os.DirFS("../testdata/caches/without-audience/key-file")); err != nil {
		t.Fatal(err)
	}
	open := func(dir string) *tokencache.Cache {
		if runtime.GOOS != "windows" {
			if err := os.Chmod(filepath.Join(dir, "sealing-key"), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		return newCache(t, openDir(t, dir), tokencache.KeyFile(filepath.Join(dir, "sealing-key")))
	}
	c, n := open(path), 0
	for r, err := range c.List(t.Context()) {
		if err != nil || r.Copy != nil {
			t.Fatalf("%+v, %v", r.Copy, err)
		}
		r, v := loadAt(t, c, r.Key)
		saveAt(t, c, r.Key, r, v)
		n++
	}
	if id, _, err := openDir(t, path).Place(t.Context()); n == 0 || id == "" {
		t.Logf("%d records; the file system has no place: %v", n, err)
		return
	}
	copied := filepath.Join(base, "copied")
	if err := os.CopyFS(copied, os.DirFS(path)); err != nil {
		t.Fatal(err)
	}
	for dir, want := range map[string]bool{path: false, copied: true} {
		for r, err := range open(dir).List(t.Context()) {
			if err != nil || r.IsCopy() != want {
				t.Errorf("in %s: a copy is %t, want %t; %v", filepath.Base(dir), r.IsCopy(), want, err)
			}
		}
	}
}

// A beginning store can begin a refresh in one step, as far as its methods say.
type beginning struct{ *placedStore }

func (beginning) Begin(context.Context, string, []byte, tokencache.Version, string) (
	v tokencache.Version, end func(context.Context, []byte, tokencache.Version) (tokencache.Version, error), unlock func() error, err error) {
	return "", nil, nil, errors.ErrUnsupported
}

// A refresh reads what it begins with where only that tells that the store is a copy, or where a key
// service has a say.
func TestMayBeginUnread(t *testing.T) {
	placed := func(id, name string) *placedStore { return &placedStore{place: place{id, name}} }
	sealed := func(s tokencache.Store) *tokencache.Cache {
		c, err := tokencache.New(s, nil)
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	for _, tt := range []struct {
		name  string
		cache *tokencache.Cache
		want  bool
	}{
		{"a store that only has a name", sealed(beginning{placed("", "production")}), true},
		{"one that has no name", sealed(beginning{placed("", "")}), true},
		{"one that knows itself", sealed(beginning{placed("7", "")}), true},
		{"one that does not begin", sealed(placed("", "")), false},
		{"a key service", enveloped(t, beginning{placed("", "")}, tokencache.Envelope{Wrapper: newKeyService(t)}), false},
	} {
		key := tokencache.Key{Issuer: "https://issuer.test", ClientID: "app"}
		fresh := &tokencache.Record{RefreshToken: "secret"}
		if got := tt.cache.MayBeginUnread(fresh); got && strings.Contains(tt.name, "itself") {
			t.Errorf("%s: of what was never loaded", tt.name)
		}
		saveAt(t, tt.cache, key, fresh, "")
		r, _ := loadAt(t, tt.cache, key)
		if got := tt.cache.MayBeginUnread(r); got != tt.want {
			t.Errorf("%s: %t", tt.name, got)
		}
	}
}

// A refresh reaches the store only with a record that was loaded where the store is now. What was
// loaded when nothing was known of that has to be loaded again.
func TestARefreshBeginsWhereItsRecordWasLoaded(t *testing.T) {
	store := &placedStore{}
	c := newCache(t, beginning{store}, nil)
	begin := func(r *tokencache.Record, v tokencache.Version, want error) {
		t.Helper()
		if _, _, _, err := c.Begin(t.Context(), testKey, r, v); !errors.Is(err, want) {
			t.Errorf("in %q: %v, want %v", store.place.id, err, want)
		}
	}
	reached := errors.ErrUnsupported // is what this store answers
	saveAt(t, c, testKey, testRecord(), "")
	r, v := loadAt(t, c, testKey)
	begin(r, v, reached)
	store.place.id = "7"
	begin(r, v, tokencache.ErrConflict)
	r, v = loadAt(t, c, testKey)
	begin(r, v, reached)
	store.place.id = "8"
	begin(r.Clone(), v, tokencache.ErrConflict)
	store.place.id = "" // It cannot tell now.
	begin(r, v, reached)
}
