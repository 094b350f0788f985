package tokencache_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stayauth/stayauth/testdata/realparts"
	"github.com/stayauth/stayauth/tokencache"
)

// onDisk returns what a store holds, by name.
func onDisk(t *testing.T, store interface {
	tokencache.Store
	tokencache.Lister
}) map[string][]byte {
	t.Helper()
	entries := map[string][]byte{}
	for name, err := range store.List(t.Context(), "") {
		if err != nil {
			t.Fatal(err)
		}
		if entries[name], _, err = store.Load(t.Context(), name); err != nil {
			t.Fatal(err)
		}
	}
	return entries
}

// The records that were wrapped with an old key open with the new one alone afterwards. Nothing
// but the wrapped key has changed, and doing it again costs nothing.
func TestRekeyWrapsAnew(t *testing.T) {
	const logins = 20
	store, service := openDir(t, t.TempDir()), newKeyService(t)
	c := enveloped(t, store, tokencache.Envelope{Wrapper: service})
	for i := range logins {
		mustSave(t, c, account(i), "")
	}
	before := onDisk(t, store)
	service.Rotate(t)
	mustSave(t, c, account(logins), "") // needs nothing any more
	service.Called()
	if err := enveloped(t, store, tokencache.Envelope{Wrapper: service}).Rekey(t.Context()); err != nil {
		t.Fatal(err)
	}
	service.wantCalls(t, "a new key", logins+1, logins) // and one to know the newest
	after := onDisk(t, store)
	for name, data := range before {
		sealed := data[bytes.Index(data, []byte("stayauth sealed v1\n")):]
		if !bytes.HasSuffix(after[name], sealed) || bytes.Equal(after[name], data) {
			t.Errorf("entry %q is the same, or more has changed than its wrapped key", name)
		}
	}
	if err := enveloped(t, store, tokencache.Envelope{Wrapper: service}).Rekey(t.Context()); err != nil {
		t.Fatal(err)
	}
	service.wantCalls(t, "the same key again", 1, 0)
	service.DestroyOld()
	for _, c := range []*tokencache.Cache{c, enveloped(t, store, tokencache.Envelope{Wrapper: service})} {
		for i := range logins + 1 {
			mustSave(t, c, account(i), mustLoad(t, c, account(i)))
		}
	}
	mustLoad(t, enveloped(t, store, tokencache.Envelope{Wrapper: service}), account(0))
}

// If the key service fails in the middle, Rekey says so soon, however many records there are,
// and continues where it was.
func TestRekeyContinuesAfterAnOutage(t *testing.T) {
	const logins = 200
	ctx, store, service := t.Context(), new(tokencache.Memory), newKeyService(t)
	c := enveloped(t, store, tokencache.Envelope{Wrapper: service})
	for i := range logins {
		mustSave(t, c, account(i), "")
	}
	service.Rotate(t)
	service.Called()
	var calls atomic.Int64
	service.Fail(func(ctx context.Context) error {
		if calls.Add(1) > 101 {
			return refusing(ctx)
		}
		return nil
	})
	wantErr(t, enveloped(t, store, tokencache.Envelope{Wrapper: service}).Rekey(ctx), tokencache.ErrUnavailable, "old keys are kept")
	if n := calls.Load(); n > 130 {
		t.Errorf("%d calls, most of them to a service that was down", n)
	}
	service.Fail(nil)
	service.Called()
	if err := enveloped(t, store, tokencache.Envelope{Wrapper: service}).Rekey(ctx); err != nil {
		t.Fatal(err)
	}
	if wraps, _ := service.Called(); wraps > 170 || wraps < 100 {
		t.Errorf("the second time %d keys were wrapped", wraps)
	}
	service.DestroyOld()
	for i := range logins {
		mustLoad(t, enveloped(t, store, tokencache.Envelope{Wrapper: service}), account(i))
	}
}

// A login whose data key was wrapped with the old key before that was replaced, and that is
// stored only afterwards, must not be missed: the old key is destroyed then.
func TestRekeyDoesNotMissANewLogin(t *testing.T) {
	realparts.Bubble(t, func(t *testing.T) {
		store, service := new(tokencache.Memory), newKeyService(t)
		c, other := enveloped(t, store, tokencache.Envelope{Wrapper: service}), enveloped(t, store, tokencache.Envelope{Wrapper: service})
		goOn := make(chan struct{})
		service.beforeWrapped = func() { <-goOn }
		var wg sync.WaitGroup
		wg.Go(func() { mustSave(t, c, testKey, "") })
		synctest.Wait()
		service.Rotate(t)
		wg.Go(func() {
			if err := other.Rekey(t.Context()); err != nil {
				t.Error(err)
			}
		})
		synctest.Wait()
		close(goOn)
		wg.Wait()
		service.DestroyOld()
		mustLoad(t, enveloped(t, store, tokencache.Envelope{Wrapper: service}), testKey)
	})
}

// Processes take turns at saving new logins, so that Rekey misses none. But a process that is
// frozen while it is its turn does not keep the others from logging in, and what they save
// meanwhile is not missed either.
func TestNewLoginsDoNotWaitForAFrozenProcess(t *testing.T) {
	realparts.Bubble(t, func(t *testing.T) {
		store, service := new(tokencache.Memory), newKeyService(t)
		c, other := enveloped(t, store, tokencache.Envelope{Wrapper: service}), enveloped(t, store, tokencache.Envelope{Wrapper: service})
		thaw, err := store.Lock(t.Context(), "stayauth keys")
		if err != nil {
			t.Fatal(err)
		}
		begun := time.Now()
		mustSave(t, c, account(1), "")
		if wait := time.Since(begun); wait > 2*time.Second {
			t.Errorf("a login took %v", wait)
		}
		mustSave(t, c, account(1), mustLoad(t, c, account(1)))
		goOn := make(chan struct{})
		service.beforeWrapped = func() { <-goOn }
		var saved tokencache.Version
		var wg sync.WaitGroup
		wg.Go(func() { saved = mustSave(t, c, testKey, "") })
		time.Sleep(2 * time.Second)
		if err := thaw(); err != nil {
			t.Fatal(err)
		}
		service.Rotate(t)
		if err := other.Rekey(t.Context()); err != nil {
			t.Fatal(err)
		}
		close(goOn)
		wg.Wait()
		service.DestroyOld()
		if v := mustLoad(t, enveloped(t, store, tokencache.Envelope{Wrapper: service}), testKey); v != saved {
			t.Error("Save returned another version than is there")
		}
		mustSave(t, c, testKey, saved)
	})
}

// Keys are replaced and destroyed again and again while processes refresh, log in and log out.
func TestRekeyOfEnvelopesUnderLoad(t *testing.T) {
	const records = 6
	store, service := new(tokencache.Memory), newKeyService(t)
	open := func() *tokencache.Cache {
		return enveloped(t, store, tokencache.Envelope{Wrapper: service, MaxKeys: 4})
	}
	for i := range records {
		mustSave(t, open(), account(i), "")
	}
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	var wg sync.WaitGroup
	for i := range 2 * records {
		user := open()
		wg.Go(func() {
			for ctx.Err() == nil {
				err := refreshOrLogIn(t.Context(), user, account(i%records))
				if err != nil && !errors.Is(err, tokencache.ErrNotFound) {
					t.Errorf("user %d: %v", i, err)
					return
				}
				time.Sleep(time.Millisecond)
			}
		})
	}
	for range 10 {
		service.Rotate(t)
		if err := open().Rekey(t.Context()); err != nil {
			t.Error(err)
		}
		service.DestroyOld()
	}
	stop()
	wg.Wait()
	for name, data := range onDisk(t, store) {
		if !bytes.HasPrefix(data, []byte("stayauth enveloped v1\n")) {
			t.Errorf("entry %q has no data key of its own", name)
		}
	}
	for i := range records {
		if _, _, err := open().Load(t.Context(), account(i)); err != nil && !errors.Is(err, tokencache.ErrNotFound) {
			t.Error(err)
		}
	}
}

// A store of sealed records becomes one of enveloped records, and goes back, while processes of
// two neighbouring steps share it: nobody is logged out.
func TestEnvelopeMigration(t *testing.T) {
	store, service := new(tokencache.Memory), newKeyService(t)
	keys := tokencache.KeyBytes(bytesKey(1))
	steps := []struct {
		does string
		open func() *tokencache.Cache
	}{
		{"seals with keys", func() *tokencache.Cache { return newCache(t, store, keys) }},
		{"can open envelopes", func() *tokencache.Cache {
			return enveloped(t, store, tokencache.Envelope{Wrapper: service, Old: keys, OpenOnly: true})
		}},
		{"envelops", func() *tokencache.Cache {
			return enveloped(t, store, tokencache.Envelope{Wrapper: service, Old: keys})
		}},
		{"needs no keys", func() *tokencache.Cache { return enveloped(t, store, tokencache.Envelope{Wrapper: service}) }},
	}
	for i := range 4 {
		mustSave(t, steps[0].open(), account(i), "")
	}
	both := func(a, b *tokencache.Cache) {
		t.Helper()
		for i := range 3 { // the fourth login is idle
			mustSave(t, a, account(i), mustLoad(t, a, account(i)))
			mustSave(t, b, account(i), mustLoad(t, b, account(i)))
			mustLoad(t, a, account(i))
		}
		mustLoad(t, a, account(3))
		mustLoad(t, b, account(3))
	}
	for _, direction := range [][]int{{0, 1, 2, 3}, {3, 2, 1, 0}} {
		for n, step := range direction[:3] {
			next := direction[n+1]
			if n == 2 { // the last step takes away what opens records that were not sealed anew
				if err := steps[step].open().Rekey(t.Context()); err != nil {
					t.Fatal(err)
				}
			}
			t.Log(steps[step].does, "beside", steps[next].does)
			both(steps[step].open(), steps[next].open())
		}
	}
	for name, data := range onDisk(t, store) {
		if !strings.HasPrefix(string(data), "stayauth sealed v1\n") {
			t.Errorf("entry %q is not sealed as it was", name)
		}
	}
}

// A process with keys that it may replace itself can move to envelopes too. Its old keys stay
// until somebody deletes them.
func TestEnvelopeMigrationFromKeyFile(t *testing.T) {
	ctx, dir, service := t.Context(), t.TempDir(), newKeyService(t)
	store := openDir(t, filepath.Join(dir, "tokens"))
	file := tokencache.KeyFile(filepath.Join(dir, "key"))
	old := newCache(t, store, file)
	mustSave(t, old, testKey, "")
	c := enveloped(t, store, tokencache.Envelope{Wrapper: service, Old: file})
	for range 2 {
		if err := c.Rekey(ctx); err != nil {
			t.Fatal(err)
		}
	}
	if n := countKeys(t, dir); n != 1 {
		t.Errorf("%d keys are in the file", n)
	}
	mustLoad(t, enveloped(t, store, tokencache.Envelope{Wrapper: service}), testKey)
	// A version without envelopes, or with other keys, refuses what it cannot open.
	_, _, err := old.Load(ctx, testKey)
	wantErr(t, err, tokencache.ErrCorrupt, "NewEnveloped")
	wantErr(t, old.Rekey(ctx), tokencache.ErrCorrupt, "old keys are kept")
	mustSave(t, old, account(1), "")
	_, _, err = enveloped(t, store, tokencache.Envelope{Wrapper: service}).Load(ctx, account(1))
	wantErr(t, err, tokencache.ErrCorrupt, "Envelope.Old")
	back := enveloped(t, store, tokencache.Envelope{Wrapper: service, Old: file, OpenOnly: true})
	if err := back.Rekey(ctx); err != nil {
		t.Fatal(err)
	}
	mustLoad(t, newCache(t, store, file), testKey)
	if got := back.KeyPlace(); !strings.Contains(got, "key file") {
		t.Errorf("the key is in %q", got)
	}
	for r, err := range newCache(t, store, file).List(ctx) {
		if err != nil {
			t.Error(fmt.Errorf("%v: %w", r, err))
		}
	}
}

// movedService wraps with one service and unwraps with that or with the one before.
type movedService struct{ now, before *keyService }

func (m movedService) WrapKey(ctx context.Context, key []byte) (tokencache.WrappedKey, error) {
	w, err := m.now.WrapKey(ctx, key)
	w.KeyID = "now " + w.KeyID
	return w, err
}

func (m movedService) UnwrapKey(ctx context.Context, w tokencache.WrappedKey) ([]byte, error) {
	if id, now := strings.CutPrefix(w.KeyID, "now "); now {
		return m.now.UnwrapKey(ctx, tokencache.WrappedKey{KeyID: id, Data: w.Data})
	}
	return m.before.UnwrapKey(ctx, w)
}

// Records move from one key service to another as they do from one key to the next.
func TestRekeyToAnotherKeyService(t *testing.T) {
	store, moved := new(tokencache.Memory), movedService{newKeyService(t), newKeyService(t)}
	for i := range 3 {
		mustSave(t, enveloped(t, store, tokencache.Envelope{Wrapper: moved.before}), account(i), "")
	}
	c := enveloped(t, store, tokencache.Envelope{Wrapper: moved})
	mustLoad(t, c, account(0))
	if err := c.Rekey(t.Context()); err != nil {
		t.Fatal(err)
	}
	moved.before.Fail(refusing)
	for i := range 3 {
		mustLoad(t, enveloped(t, store, tokencache.Envelope{Wrapper: moved}), account(i))
	}
}
