package tokencache_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stayauth/stayauth/testdata/realparts"
	"github.com/stayauth/stayauth/testdata/realparts/keycheck"
	"github.com/stayauth/stayauth/tokencache"
	"github.com/stayauth/stayauth/tokencache/publickey"
)

// A keyService is a key service that sees what it is given.
type keyService struct {
	*keycheck.StandIn
	mu            sync.Mutex
	dataKeys      [][]byte // all that it has seen
	beforeWrapped func()   // called once, in the middle of WrapKey
}

func newKeyService(t testing.TB) *keyService {
	return &keyService{StandIn: keycheck.NewStandIn(t)}
}

func (s *keyService) wantCalls(t *testing.T, when string, wraps, opens int) {
	t.Helper()
	if w, o := s.Called(); w != wraps || o != opens {
		t.Errorf("%s: %d keys were wrapped and %d opened, want %d and %d", when, w, o, wraps, opens)
	}
}

func (s *keyService) WrapKey(ctx context.Context, key []byte) (tokencache.WrappedKey, error) {
	w, err := s.StandIn.WrapKey(ctx, key)
	s.mu.Lock()
	s.dataKeys = append(s.dataKeys, bytes.Clone(key))
	hook := s.beforeWrapped
	s.beforeWrapped = nil
	s.mu.Unlock()
	if hook != nil {
		hook()
	}
	return w, err
}

// refusing and hanging are what a KMS does when it is down.
func refusing(context.Context) error {
	return fmt.Errorf("%w: the key service is being tested", tokencache.ErrUnavailable)
}

func hanging(ctx context.Context) error { <-ctx.Done(); return ctx.Err() }

func publicKey(t testing.TB) tokencache.KeyWrapper {
	t.Helper()
	key, err := keycheck.NewPrivateKey()
	if err != nil {
		t.Fatal(err)
	}
	w, err := publickey.NewWrapper(key)
	if err != nil {
		t.Fatal(err)
	}
	return w
}

func enveloped(t testing.TB, store tokencache.Store, e tokencache.Envelope) *tokencache.Cache {
	t.Helper()
	c, err := tokencache.NewEnveloped(store, e)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func mustSave(t *testing.T, c *tokencache.Cache, key tokencache.Key, old tokencache.Version) tokencache.Version {
	t.Helper()
	v, err := c.Save(t.Context(), key, testRecord(), old)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func mustLoad(t *testing.T, c *tokencache.Cache, key tokencache.Key) tokencache.Version {
	t.Helper()
	r, v, err := c.Load(t.Context(), key)
	if err != nil {
		t.Fatal(err)
	}
	if r.RefreshToken != testRecord().RefreshToken {
		t.Fatal("loaded something else")
	}
	return v
}

// A rotation costs no call to the key service, and a start one per login that is used.
func TestEnvelopeCallsPerLogin(t *testing.T) {
	store, service := new(tokencache.Memory), newKeyService(t)
	c := enveloped(t, store, tokencache.Envelope{Wrapper: service})
	v := mustSave(t, c, testKey, "")
	service.wantCalls(t, "a login", 1, 0)
	for _, process := range []struct {
		c     *tokencache.Cache
		opens int
	}{{c, 0}, {enveloped(t, store, tokencache.Envelope{Wrapper: service}), 1}, {c, 0}} {
		for range 5 {
			v = mustLoad(t, process.c, testKey)
			if err := process.c.Preflight(t.Context(), testKey, testRecord()); err != nil {
				t.Fatal(err)
			}
			v = mustSave(t, process.c, testKey, mustSave(t, process.c, testKey, v))
		}
		service.wantCalls(t, "5 rotations", 0, process.opens)
	}
	if err := c.Delete(t.Context(), testKey, v); err != nil {
		t.Fatal(err)
	}
	mustSave(t, c, testKey, "")
	service.wantCalls(t, "a login after a logout", 1, 0)
	var wg sync.WaitGroup
	other := enveloped(t, store, tokencache.Envelope{Wrapper: service})
	for range 50 {
		wg.Go(func() { mustLoad(t, other, testKey) })
	}
	wg.Wait()
	service.wantCalls(t, "50 goroutines that load a login", 0, 1)
}

// While the key service is down, logins whose data key is known go on, and the others wait
// without being taken for corrupt or absent. A refresh whose outcome could not be stored is not
// begun.
func TestEnvelopeOutage(t *testing.T) {
	for name, fault := range map[string]func(context.Context) error{"refuses": refusing, "hangs": hanging} {
		t.Run(name, func(t *testing.T) {
			realparts.Bubble(t, func(t *testing.T) {
				ctx, store, service := t.Context(), new(tokencache.Memory), newKeyService(t)
				known, fresh := enveloped(t, store, tokencache.Envelope{Wrapper: service}), enveloped(t, store, tokencache.Envelope{Wrapper: service})
				mustSave(t, known, testKey, "")
				service.Fail(fault)
				for range 3 {
					mustSave(t, known, testKey, mustLoad(t, known, testKey))
					if err := known.Preflight(ctx, testKey, testRecord()); err != nil {
						t.Error(err)
					}
				}
				begun := time.Now()
				_, v, err := fresh.Load(ctx, testKey)
				wantErr(t, err, tokencache.ErrUnavailable)
				if errors.Is(err, tokencache.ErrCorrupt) || v == "" || time.Since(begun) > 6*time.Second {
					t.Errorf("after %v: version %q, %v", time.Since(begun), v, err)
				}
				wantErr(t, known.Preflight(ctx, account(1), testRecord()), tokencache.ErrUnavailable)
				_, err = known.Save(ctx, account(1), testRecord(), "")
				wantErr(t, err, tokencache.ErrUnavailable)
				service.Fail(nil)
				time.Sleep(6 * time.Second) // what failed is not remembered for longer
				mustLoad(t, fresh, testKey)
				mustSave(t, known, account(1), "")
			})
		})
	}
}

// A caller that does not wait any longer is no outage.
func TestEnvelopeCallerGivesUp(t *testing.T) {
	realparts.Bubble(t, func(t *testing.T) {
		store, service := new(tokencache.Memory), newKeyService(t)
		mustSave(t, enveloped(t, store, tokencache.Envelope{Wrapper: service}), testKey, "")
		c := enveloped(t, store, tokencache.Envelope{Wrapper: service})
		service.Fail(hanging)
		for range 5 {
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			_, _, err := c.Load(ctx, testKey)
			cancel()
			wantErr(t, err, context.DeadlineExceeded)
		}
		service.Fail(nil)
		mustLoad(t, c, testKey)
	})
}

// A data key is confirmed twice in MaxAge at most, outlives an outage of half that time, and is
// not used any longer than that. When it turns out that access was taken away, it is forgotten
// at once.
func TestEnvelopeMaxAge(t *testing.T) {
	realparts.Bubble(t, func(t *testing.T) {
		ctx, store, service := t.Context(), new(tokencache.Memory), newKeyService(t)
		c := enveloped(t, store, tokencache.Envelope{Wrapper: service})
		mustSave(t, c, testKey, "")
		service.Called()
		for range 24 * 10 {
			time.Sleep(time.Hour)
			mustLoad(t, c, testKey)
		}
		if _, opens := service.Called(); opens < 10 || opens > 20 {
			t.Errorf("in 10 days the key was opened %d times", opens)
		}
		service.Fail(hanging)
		for range 12 { // it was confirmed 12 hours ago at most
			begun := time.Now()
			mustLoad(t, c, testKey)
			if wait := time.Since(begun); wait > 2*time.Second {
				t.Errorf("an outage held up a load for %v", wait)
			}
			time.Sleep(58 * time.Minute)
		}
		time.Sleep(13 * time.Hour)
		_, _, err := c.Load(ctx, testKey)
		wantErr(t, err, tokencache.ErrUnavailable)

		service.Fail(nil)
		time.Sleep(time.Minute)
		v := mustLoad(t, c, testKey)
		service.Rotate(t)
		service.DestroyOld()
		time.Sleep(12*time.Hour + time.Minute)
		_, at, err := c.Load(ctx, testKey)
		wantErr(t, err, tokencache.ErrCorrupt, "private half")
		if at != v {
			t.Error("no version, so nobody can delete it")
		}
		// A new login replaces it all the same.
		mustSave(t, c, testKey, v)
		mustLoad(t, c, testKey)
	})
}

// A process keeps no more data keys than it is allowed.
func TestEnvelopeMaxKeys(t *testing.T) {
	store, service := new(tokencache.Memory), newKeyService(t)
	c := enveloped(t, store, tokencache.Envelope{Wrapper: service, MaxKeys: 3})
	for i := range 4 {
		mustSave(t, c, account(i), "")
	}
	service.Called()
	for _, i := range []int{3, 2, 1} {
		mustLoad(t, c, account(i))
	}
	service.wantCalls(t, "those used last", 0, 0)
	v := mustLoad(t, c, account(0))
	service.wantCalls(t, "the one before", 0, 1)
	mustLoad(t, c, account(1))
	mustLoad(t, c, account(2))
	mustLoad(t, c, account(3))
	service.Called()
	mustSave(t, c, account(0), v) // with another key, because the old one is forgotten
	service.wantCalls(t, "a save of what was forgotten", 1, 0)
	mustLoad(t, c, account(0))
}

// Whoever can write to the store can neither pass one entry off as another nor have it sealed
// with a key of their choice.
func TestEnvelopePartsBelongTogether(t *testing.T) {
	ctx, store, service := t.Context(), new(tokencache.Memory), newKeyService(t)
	c := enveloped(t, store, tokencache.Envelope{Wrapper: service})
	mustSave(t, c, account(0), "")
	mustSave(t, c, account(1), "")
	entry := func(i int) (header, sealed []byte, v tokencache.Version) {
		data, v, err := store.Load(ctx, account(i).Name())
		if err != nil {
			t.Fatal(err)
		}
		at := bytes.Index(data, []byte("stayauth sealed v1\n"))
		return data[:at], data[at:], v
	}
	header0, sealed0, v := entry(0)
	header1, sealed1, _ := entry(1)
	if bytes.Equal(sealed0[19:27], sealed1[19:27]) {
		t.Error("two records have the same data key")
	}
	for name, data := range map[string][]byte{
		"the other's header": append(bytes.Clone(header1), sealed0...),
		"the other's data":   append(bytes.Clone(header0), sealed1...),
		"the other entry":    append(bytes.Clone(header1), sealed1...),
		"no header":          sealed0,
		"half a header":      append(bytes.Clone(header0[:len(header0)-4]), sealed0...),
		"only a header":      header0,
		"nothing":            {},
	} {
		var err error
		if v, err = store.Save(ctx, account(0).Name(), data, v); err != nil {
			t.Fatal(err)
		}
		for who, c := range map[string]*tokencache.Cache{"this process": c, "a new one": enveloped(t, store, tokencache.Envelope{Wrapper: service})} {
			if _, at, err := c.Load(ctx, account(0)); !errors.Is(err, tokencache.ErrCorrupt) || at != v {
				t.Errorf("%s: %s: version %q, %v", name, who, at, err)
			}
		}
	}
	mustSave(t, c, account(0), v)
	mustLoad(t, c, account(0))
}

// What a KeyWrapper says is wrong is an error that tells what to do, and holds no key.
func TestEnvelopeOddKeyWrappers(t *testing.T) {
	for name, tt := range map[string]struct {
		wrapped tokencache.WrappedKey
		err     error
		want    error
	}{
		"no data":         {want: tokencache.ErrUnavailable},
		"long data":       {wrapped: tokencache.WrappedKey{Data: make([]byte, 8193)}, want: tokencache.ErrUnavailable},
		"long key id":     {wrapped: tokencache.WrappedKey{Data: []byte("x"), KeyID: strings.Repeat("x", 1025)}, want: tokencache.ErrUnavailable},
		"some error":      {err: errors.New("some error"), want: tokencache.ErrUnavailable},
		"not found":       {err: tokencache.ErrNotFound, want: tokencache.ErrUnavailable},
		"its own timeout": {err: context.DeadlineExceeded, want: tokencache.ErrUnavailable},
	} {
		c := enveloped(t, new(tokencache.Memory), tokencache.Envelope{Wrapper: oddWrapper{tt.wrapped, tt.err}})
		_, err := c.Save(t.Context(), testKey, testRecord(), "")
		if !errors.Is(err, tt.want) || errors.Is(err, tokencache.ErrNotFound) || strings.Contains(err.Error(), "KEY!") {
			t.Errorf("%s: %v", name, err)
		}
		if err := c.Preflight(t.Context(), testKey, testRecord()); !errors.Is(err, tt.want) {
			t.Errorf("%s: Preflight: %v", name, err)
		}
	}
	store := new(tokencache.Memory)
	odd := oddWrapper{wrapped: tokencache.WrappedKey{Data: []byte("x")}}
	c := enveloped(t, store, tokencache.Envelope{Wrapper: odd})
	mustSave(t, c, testKey, "")
	_, _, err := enveloped(t, store, tokencache.Envelope{Wrapper: odd}).Load(t.Context(), testKey)
	wantErr(t, err, tokencache.ErrCorrupt, "4 bytes")
	if strings.Contains(err.Error(), "KEY!") {
		t.Error("the error holds the key")
	}
}

type oddWrapper struct {
	wrapped tokencache.WrappedKey
	err     error
}

func (o oddWrapper) WrapKey(context.Context, []byte) (tokencache.WrappedKey, error) {
	return o.wrapped, o.err
}

func (o oddWrapper) UnwrapKey(context.Context, tokencache.WrappedKey) ([]byte, error) {
	return []byte("KEY!"), nil
}

// A mistake in the configuration is told before a login is lost by it.
func TestNewEnvelopedSaysWhatIsMissing(t *testing.T) {
	service := newKeyService(t)
	for want, e := range map[string]tokencache.Envelope{"Wrapper": {}, "Old": {Wrapper: service, OpenOnly: true}} {
		if _, err := tokencache.NewEnveloped(new(tokencache.Memory), e); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %q", err, want)
		}
	}
	if _, err := tokencache.NewEnveloped(nil, tokencache.Envelope{Wrapper: service}); err == nil {
		t.Error("no store was needed")
	}
	c := enveloped(t, new(tokencache.Memory), tokencache.Envelope{Wrapper: publicKey(t)})
	if !strings.HasPrefix(c.KeyPlace(), "public key ") {
		t.Errorf("the key is in %q", c.KeyPlace())
	}
	if got := enveloped(t, new(tokencache.Memory), tokencache.Envelope{Wrapper: service}).KeyPlace(); got != "" {
		t.Errorf("the key is in %q", got)
	}
}

// The goroutines of a process may load an entry at a version that another one has not seen.
// Then a save names the wrapped key of the version that it replaces, and asks nobody for it:
// neither may a refresh depend on the key service, nor may an old wrapped key come back.
func TestEnvelopeSaveAtAnotherVersion(t *testing.T) {
	ctx, store, service := t.Context(), new(tokencache.Memory), newKeyService(t)
	c := enveloped(t, store, tokencache.Envelope{Wrapper: service})
	old := mustSave(t, c, testKey, "")
	service.Rotate(t)
	if err := enveloped(t, store, tokencache.Envelope{Wrapper: service}).Rekey(ctx); err != nil {
		t.Fatal(err)
	}
	_, now, err := store.Load(ctx, testKey.Name())
	if err != nil || now == old {
		t.Fatalf("was not wrapped anew: %v", err)
	}
	service.Fail(refusing)
	_, err = c.Save(ctx, testKey, testRecord(), old)
	wantErr(t, err, tokencache.ErrConflict)
	mustSave(t, c, testKey, now) // c has loaded no other version than old
	service.Fail(nil)
	service.DestroyOld()
	v := mustLoad(t, enveloped(t, store, tokencache.Envelope{Wrapper: service}), testKey)
	if err := store.Delete(ctx, testKey.Name(), v); err != nil {
		t.Fatal(err)
	}
	_, err = c.Save(ctx, testKey, testRecord(), now)
	wantErr(t, err, tokencache.ErrConflict)
}
