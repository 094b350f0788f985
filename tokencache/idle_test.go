package tokencache_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stayauth/stayauth/tokencache"
)

func idleAccounts(t *testing.T, c *tokencache.Cache, before time.Time) (accounts []string, errs []error) {
	t.Helper()
	for r, err := range c.Idle(t.Context(), before, nil) {
		if err != nil {
			errs = append(errs, err)
			continue
		}
		accounts = append(accounts, r.Key.Account)
	}
	return accounts, errs
}

// A listingStore can list names, and does not know since when they are idle.
type listingStore struct{ countingStore }

func (s *countingStore) opened() int { return s.loads }

// ListIdle hides that of Memory: it is no tokencache.IdleLister.
func (*listingStore) ListIdle() {}

// Of logins that were renewed every hour, those of the last day are not returned, and not opened
// if the store knows when they were saved.
func TestIdleOpensOnlyWhatIsIdle(t *testing.T) {
	for name, test := range map[string]struct {
		store tokencache.Store
		loads func(tokencache.Store) int
		want  int
	}{
		"the store knows": {new(countingStore), func(s tokencache.Store) int { return s.(*countingStore).loads }, 24},
		"a plain Lister":  {new(listingStore), func(s tokencache.Store) int { return s.(*listingStore).loads }, 48},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c := newCache(t, test.store, nil)
				var want []string
				for i := range 48 {
					account := fmt.Sprint(i)
					if _, err := c.Save(t.Context(), tokencache.Key{Account: account}, &tokencache.Record{ObtainedAt: time.Now()}, ""); err != nil {
						t.Fatal(err)
					}
					if i < 24 {
						want = append(want, account)
					}
					time.Sleep(time.Hour)
				}
				got, errs := idleAccounts(t, c, time.Now().Add(-24*time.Hour))
				if test.want == 48 { // in any order
					slices.Sort(got)
					slices.Sort(want)
				}
				if !slices.Equal(got, want) || errs != nil {
					t.Errorf("idle: %q, %v; want %q, the longest idle first", got, errs, want)
				}
				if n := test.loads(test.store); n != test.want {
					t.Errorf("%d records were opened, want %d", n, test.want)
				}
			})
		})
	}
}

// A login that was renewed after its name was listed is not returned; one that cannot be read
// is an error, and the others follow.
func TestIdleSkipsWhatWasRenewedMeanwhile(t *testing.T) {
	store := new(tokencache.Memory)
	c := newCache(t, store, nil)
	begin := time.Now().Add(-48 * time.Hour)
	versions := map[string]tokencache.Version{}
	for _, account := range []string{"ann", "bob", "cy", "dan"} {
		key := tokencache.Key{Account: account}
		v, err := c.Save(t.Context(), key, &tokencache.Record{ObtainedAt: begin}, "")
		if err != nil {
			t.Fatal(err)
		}
		versions[account] = v
	}
	if _, err := store.Save(t.Context(), tokencache.Key{Account: "cy"}.Name(), []byte("damaged"), versions["cy"]); err != nil {
		t.Fatal(err)
	}
	var seen []string
	var errs []error
	for r, err := range c.Idle(t.Context(), time.Now().Add(time.Minute), nil) {
		if err != nil {
			errs = append(errs, err)
			continue
		}
		if seen = append(seen, r.Key.Account); len(seen) > 1 {
			continue
		}
		for _, account := range []string{"ann", "bob", "dan"} {
			if account == r.Key.Account {
				continue
			}
			if _, err := c.Save(t.Context(), tokencache.Key{Account: account}, &tokencache.Record{ObtainedAt: time.Now().Add(2 * time.Minute)}, versions[account]); err != nil {
				t.Fatal(err)
			}
		}
	}
	if len(seen) != 1 || len(errs) != 1 || !errors.Is(errs[0], tokencache.ErrCorrupt) {
		t.Errorf("returned %q, %v", seen, errs)
	}
}

// A clock that was wrong for a time, or a restore, must not hide a login until the year 2100.
func TestIdleListsWhatWasSavedInTheFuture(t *testing.T) {
	future := time.Date(2100, 1, 1, 0, 0, 0, 0, time.UTC)
	dir := t.TempDir()
	c := newCache(t, openDir(t, dir), tokencache.KeyBytes(bytesKey(1)))
	for account, obtained := range map[string]time.Time{"ann": time.Now(), "bob": future, "cy": {}} {
		if _, err := c.Save(t.Context(), tokencache.Key{Account: account}, &tokencache.Record{ObtainedAt: obtained}, ""); err != nil {
			t.Fatal(err)
		}
	}
	files, err := filepath.Glob(filepath.Join(dir, "entries", "e*"))
	if err != nil || len(files) != 3 {
		t.Fatal(files, err)
	}
	dayAgo := time.Now().Add(-24 * time.Hour)
	if got, errs := idleAccounts(t, c, dayAgo); got != nil || errs != nil {
		t.Errorf("idle, although just saved: %q, %v", got, errs)
	}
	for what, mtime := range map[string]time.Time{"future": future, "past": dayAgo.Add(-time.Hour)} {
		for _, f := range files {
			if err := os.Chtimes(f, time.Time{}, mtime); err != nil {
				t.Fatal(err)
			}
		}
		got, errs := idleAccounts(t, c, dayAgo)
		if slices.Sort(got); !slices.Equal(got, []string{"bob", "cy"}) || errs != nil {
			t.Errorf("files of the %s: idle %q, %v; want those whose time is unknown or wrong", what, got, errs)
		}
	}
}

// Of many idle logins, a pass that wants one opens no others, whatever the store.
func TestIdleOpensOnlyWhatIsWanted(t *testing.T) {
	for _, store := range []interface {
		tokencache.Store
		opened() int
	}{new(countingStore), new(listingStore)} {
		c := newCache(t, store, nil)
		for i := range 100 {
			if _, err := c.Save(t.Context(), tokencache.Key{Account: fmt.Sprint(i)}, new(tokencache.Record), ""); err != nil {
				t.Fatal(err)
			}
		}
		want, n := tokencache.Key{Account: "42"}, 0
		for r, err := range c.Idle(t.Context(), time.Now().Add(time.Minute), func(name string) bool { return name == want.Name() }) {
			if n++; err != nil || r.Key != want {
				t.Errorf("%v, %v", r, err)
			}
		}
		if n != 1 || store.opened() != 1 {
			t.Errorf("%T: %d returned, %d opened, want 1", store, n, store.opened())
		}
	}
}

// A mute store lists nothing.
type muteStore struct{ tokencache.Store }

func (muteStore) Confidential() bool { return true }

func TestIdleNeedsALister(t *testing.T) {
	c := newCache(t, muteStore{new(tokencache.Memory)}, nil)
	_, errs := idleAccounts(t, c, time.Now())
	if len(errs) != 1 || !errors.Is(errs[0], errors.ErrUnsupported) {
		t.Error(errs)
	}
}
