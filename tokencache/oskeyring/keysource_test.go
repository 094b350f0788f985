package oskeyring

import (
	"errors"
	"strings"
	"sync"
	"testing"

	"github.com/stayauth/stayauth/tokencache"
)

func TestLostKey(t *testing.T) {
	other := newKey()
	for name, c := range map[string]struct {
		lose func(f *fake, service string)
		want string
	}{
		"removed": {func(f *fake, service string) { f.Delete(service, keyUser, "") }, "the key that seals the records is gone"},
		"changed": {func(f *fake, service string) {
			it, _ := encodeKeys([][]byte{other})
			f.Set(service, keyUser, it.value, "")
		}, "sealed with another key"},
		"damaged": {func(f *fake, service string) { f.Set(service, keyUser, "x", "") }, "no keys of stayauth"},
		"newer":   {func(f *fake, service string) { f.Set(service, keyUser, `{"v":2}`, "") }, "update the program"},
		"short":   {func(f *fake, service string) { f.Set(service, keyUser, `{"v":1,"keys":["AAAA"]}`, "") }, "3 bytes"},
	} {
		t.Run(name, func(t *testing.T) {
			f, dir := new(fake), t.TempDir()
			cfg := f.config(dir)
			cache, _ := mustOpen(t, cfg)
			save(t, cache)
			d, err := openDirs("test", dir)
			if err != nil {
				t.Fatal(err)
			}
			service := cfg.keyring(d, d.suffix).service
			good, _, _ := f.Get(t.Context(), service, keyUser, "")
			c.lose(f, service)
			sets := f.sets.Load()
			for range 2 {
				cache, _, err := cfg.Open(t.Context())
				if err == nil {
					_, _, err = cache.Load(t.Context(), testKey)
				}
				if !errors.Is(err, tokencache.ErrCorrupt) || errors.Is(err, tokencache.ErrNotFound) || !strings.Contains(err.Error(), c.want) {
					t.Fatalf("error %v, want ErrCorrupt that says %q", err, c.want)
				}
			}
			if f.sets.Load() != sets {
				t.Error("a key was made")
			}
			// The record was kept: with its key, it is as good as before.
			if err := f.Set(service, keyUser, good.value, ""); err != nil {
				t.Fatal(err)
			}
			cache, _ = mustOpen(t, cfg)
			wantLoad(t, cache)
		})
	}
}

// The key is removed while a process runs that has it.
func TestKeyRemovedMeanwhile(t *testing.T) {
	f, dir := new(fake), t.TempDir()
	cfg := f.config(dir)
	cache, _ := mustOpen(t, cfg)
	clear(f.items)
	sets := f.sets.Load()
	_, err := cache.Save(t.Context(), testKey, testRecord(1), "")
	if !errors.Is(err, tokencache.ErrCorrupt) || f.sets.Load() != sets {
		t.Errorf("error %v, %d writes", err, f.sets.Load()-sets)
	}
	// Nothing is stored, so the next start may make a key.
	cache, _ = mustOpen(t, cfg)
	save(t, cache)
}

func TestFirstStartTogether(t *testing.T) {
	f, dir := new(fake), t.TempDir()
	caches := make([]*tokencache.Cache, 20)
	var wg sync.WaitGroup
	for i := range caches {
		wg.Go(func() { caches[i], _ = mustOpen(t, f.config(dir)) })
	}
	wg.Wait()
	if n := f.sets.Load(); n != 1 {
		t.Errorf("%d keys were made", n)
	}
	save(t, caches[0])
	for _, c := range caches {
		wantLoad(t, c)
	}
}

func FuzzDecodeKeys(f *testing.F) {
	it, _ := encodeKeys([][]byte{newKey(), newKey()})
	f.Add(it.value)
	f.Add(`{"v":1,"keys":[""]}`)
	f.Fuzz(func(t *testing.T, value string) {
		keys, err := decodeKeys(item{value, true})
		if (err == nil) != (len(keys) > 0) || err != nil && !errors.Is(err, tokencache.ErrCorrupt) {
			t.Errorf("%d keys, %v", len(keys), err)
		}
	})
}
