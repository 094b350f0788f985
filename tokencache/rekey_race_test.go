package tokencache_test

import (
	"context"
	"iter"
	"sync"
	"testing"
	"testing/synctest"

	"github.com/stayauth/stayauth/testdata/realparts"
	"github.com/stayauth/stayauth/tokencache"
)

// rotator is a KeyRotator in memory. Keys reads the keys and then takes its time,
// if hold is not nil, until hold is closed.
type rotator struct {
	mu   sync.Mutex
	keys [][]byte
	hold chan struct{}
}

func (r *rotator) Keys(context.Context) ([][]byte, error) {
	r.mu.Lock()
	keys, hold := r.keys, r.hold
	r.hold = nil
	r.mu.Unlock()
	if hold != nil {
		<-hold
	}
	return keys, nil
}

func (r *rotator) AddKey(context.Context) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.keys = append([][]byte{bytesKey(byte(len(r.keys) + 1))}, r.keys...)
	return nil
}

func (r *rotator) DropOldKeys(context.Context) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.keys = r.keys[:1]
	return nil
}

// An answer of the key source from before the new key was added must not be taken
// for the present keys: records would be sealed with a key that is then dropped.
func TestRekeyDoesNotUseAnOldAnswer(t *testing.T) {
	realparts.Bubble(t, func(t *testing.T) {
		store := new(tokencache.Memory)
		source := &rotator{keys: [][]byte{bytesKey(1)}}
		c := newCache(t, store, source)
		if _, err := c.Save(t.Context(), testKey, testRecord(), ""); err != nil {
			t.Fatal(err)
		}
		// An entry sealed with a foreign key makes the cache ask again.
		other := account(1)
		v, err := newCache(t, store, tokencache.KeyBytes(bytesKey(99))).Save(t.Context(), other, testRecord(), "")
		if err != nil {
			t.Fatal(err)
		}
		hold := make(chan struct{})
		source.hold = hold
		go c.Load(t.Context(), other)
		synctest.Wait()
		if err := store.Delete(t.Context(), other.Name(), v); err != nil {
			t.Fatal(err)
		}
		rekeyed := make(chan error)
		go func() { rekeyed <- c.Rekey(t.Context()) }()
		synctest.Wait()
		close(hold)
		if err := <-rekeyed; err != nil {
			t.Fatal(err)
		}
		if _, _, err := newCache(t, store, source).Load(t.Context(), testKey); err != nil {
			t.Error(err)
		}
	})
}

// forgetful is a store whose first listings lack an entry, as a directory may that
// is read while files are replaced in it.
type forgetful struct {
	*tokencache.Memory
	forget int
}

func (f *forgetful) List(ctx context.Context, prefix string) iter.Seq2[string, error] {
	forget := f.forget > 0
	f.forget--
	return func(yield func(string, error) bool) {
		for name, err := range f.Memory.List(ctx, prefix) {
			if forget && name == testKey.Name() {
				continue
			}
			if !yield(name, err) {
				return
			}
		}
	}
}

func TestRekeyListsAgain(t *testing.T) {
	store := &forgetful{Memory: new(tokencache.Memory), forget: 1}
	source := &rotator{keys: [][]byte{bytesKey(1)}}
	c := newCache(t, store, source)
	for _, key := range []tokencache.Key{testKey, account(1)} {
		if _, err := c.Save(t.Context(), key, testRecord(), ""); err != nil {
			t.Fatal(err)
		}
	}
	if err := c.Rekey(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, _, err := newCache(t, store, source).Load(t.Context(), testKey); err != nil {
		t.Error(err)
	}
}
