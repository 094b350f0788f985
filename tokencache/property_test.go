package tokencache_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand"
	"path/filepath"
	"reflect"
	"strings"
	"sync"
	"testing"
	"testing/quick"
	"time"

	"github.com/stayauth/stayauth/tokencache"
)

// A script is what some processes do with a cache, one step after the other.
type script []step

type step struct {
	Handle int // which process
	Entry  int
	Do     string
	Since  int // Save and Delete replace the version that was current so many changes ago
}

const (
	handles = 3
	entries = 2
)

// Generate implements quick.Generator.
func (script) Generate(r *rand.Rand, size int) reflect.Value {
	s := make(script, 1+r.Intn(size))
	for i := range s {
		do := []string{"load", "save", "save", "save", "delete", "lock", "unlock", "reopen"}[r.Intn(8)]
		s[i] = step{r.Intn(handles), r.Intn(entries), do, max(0, r.Intn(5)-2)}
	}
	return reflect.ValueOf(s)
}

func (s script) String() string {
	var b strings.Builder
	for _, st := range s {
		fmt.Fprintf(&b, "\n%c: %s entry %d, version of %d changes ago", 'A'+st.Handle, st.Do, st.Entry, st.Since)
	}
	return b.String()
}

// An entry is what the model knows of one.
type entry struct {
	versions []tokencache.Version // all that it has had, the current one last; the first is "" for "absent"
	token    tokencache.Secret    // stored now; "" if there is none
	holder   int                  // of its lock, from 1; 0: nobody
	unlock   func() error
}

func (e *entry) version(since int) tokencache.Version {
	return e.versions[max(0, len(e.versions)-1-since)]
}

// run runs the script, and compares each answer with that of a model: a map of
// entries. open opens the cache as another process would.
func (s script) run(t *testing.T, open func() *tokencache.Cache) error {
	ctx := t.Context()
	var caches [handles]*tokencache.Cache
	for i := range caches {
		caches[i] = open()
	}
	model := make([]*entry, entries)
	for i := range model {
		model[i] = &entry{versions: []tokencache.Version{""}}
		defer func() {
			if unlock := model[i].unlock; unlock != nil {
				unlock()
			}
		}()
	}
	for n, st := range s {
		c, e := caches[st.Handle], model[st.Entry]
		key := tokencache.Key{Issuer: "https://issuer.example", ClientID: "client", Account: fmt.Sprint(st.Entry)}
		old := e.version(st.Since)
		want := func(err, want error) error {
			if !errors.Is(err, want) || want == nil && err != nil {
				return fmt.Errorf("step %d, %s: %v, want %v", n+1, st.Do, err, want)
			}
			return nil
		}
		var wrong error
		switch st.Do {
		case "load":
			r, v, err := c.Load(ctx, key)
			switch {
			case e.token == "":
				wrong = want(err, tokencache.ErrNotFound)
			case err != nil || r.AccessToken != e.token || v != e.version(0):
				wrong = fmt.Errorf("step %d: loaded another state than was saved last: %v", n+1, err)
			}
		case "save":
			token := tokencache.Secret(fmt.Sprint("token ", n))
			v, err := c.Save(ctx, key, &tokencache.Record{AccessToken: token}, old)
			if old != e.version(0) {
				wrong = want(err, tokencache.ErrConflict)
				break
			}
			e.versions, e.token = append(e.versions, v), token
			if wrong = want(err, nil); wrong == nil && v == "" {
				wrong = fmt.Errorf("step %d: saved without a version", n+1)
			}
		case "delete":
			err := c.Delete(ctx, key, old)
			switch {
			case e.token == "":
				wrong = want(err, nil)
			case old != e.version(0):
				wrong = want(err, tokencache.ErrConflict)
			default:
				e.versions, e.token = append(e.versions, ""), ""
				wrong = want(err, nil)
			}
		case "lock":
			if e.holder != 0 {
				brief, cancel := context.WithTimeout(ctx, time.Millisecond)
				_, err := c.Lock(brief, key)
				cancel()
				wrong = want(err, context.DeadlineExceeded)
				break
			}
			unlock, err := c.Lock(ctx, key)
			e.holder, e.unlock = st.Handle+1, unlock
			wrong = want(err, nil)
		case "unlock":
			if e.holder == st.Handle+1 {
				wrong = want(e.unlock(), nil)
				e.holder, e.unlock = 0, nil
			}
		case "reopen":
			caches[st.Handle] = open()
		}
		if wrong != nil {
			return wrong
		}
	}
	return nil
}

// eachShared runs f on the stores of this package. open opens one store again and
// again, as the processes that share it do.
func eachShared(t *testing.T, f func(t *testing.T, fresh func() (open func() *tokencache.Cache))) {
	t.Run("Memory", func(t *testing.T) {
		f(t, func() func() *tokencache.Cache {
			store := new(tokencache.Memory)
			return func() *tokencache.Cache { return newCache(t, store, tokencache.KeyBytes(bytesKey(1))) }
		})
	})
	t.Run("Memory enveloped", func(t *testing.T) {
		f(t, func() func() *tokencache.Cache {
			store, service := new(tokencache.Memory), newKeyService(t)
			return func() *tokencache.Cache { return enveloped(t, store, tokencache.Envelope{Wrapper: service}) }
		})
	})
	t.Run("Dir", func(t *testing.T) {
		f(t, func() func() *tokencache.Cache {
			dir := t.TempDir()
			return func() *tokencache.Cache {
				return newCache(t, openDir(t, filepath.Join(dir, "tokens")), tokencache.KeyFile(filepath.Join(dir, "key")))
			}
		})
	})
}

// Whatever some processes do one after the other, each of them sees what a map of
// versions would show.
func TestCacheIsAMapOfVersions(t *testing.T) {
	eachShared(t, func(t *testing.T, fresh func() func() *tokencache.Cache) {
		seed := time.Now().UnixNano()
		cfg := &quick.Config{MaxCount: 40, Rand: rand.New(rand.NewSource(seed))}
		if testing.Short() {
			cfg.MaxCount = 10
		}
		var why error
		err := quick.Check(func(s script) bool {
			why = s.run(t, fresh())
			return why == nil
		}, cfg)
		if err != nil {
			t.Errorf("seed %d: %v after%v", seed, why, err.(*quick.CheckError).In[0])
		}
	})
}

// What several processes do at the same time has an order: each version is replaced
// by at most one other, and whatever is loaded was the content of its version.
func TestCacheUnderRandomInterleavings(t *testing.T) {
	eachShared(t, func(t *testing.T, fresh func() func() *tokencache.Cache) {
		const steps = 60
		open := fresh()
		var mu sync.Mutex
		replaced := make(map[tokencache.Version]string)
		content := make(map[tokencache.Version]tokencache.Secret)
		loaded := make(map[tokencache.Version]tokencache.Secret)
		saves := 0
		note := func(old tokencache.Version, by string) {
			mu.Lock()
			defer mu.Unlock()
			if before, twice := replaced[old]; twice && old != "" {
				t.Errorf("one version was replaced twice: by %s and by %s", before, by)
			}
			replaced[old] = by
		}
		var wg sync.WaitGroup
		for h := range 4 {
			seed := time.Now().UnixNano() + int64(h)
			wg.Go(func() {
				c, r := open(), rand.New(rand.NewSource(seed))
				var known tokencache.Version
				for n := range steps {
					me := fmt.Sprintf("%c's step %d (seed %d)", 'A'+h, n+1, seed)
					switch k := r.Intn(10); {
					case k < 4:
						rec, v, err := c.Load(t.Context(), testKey)
						if known = v; errors.Is(err, tokencache.ErrNotFound) {
							continue
						}
						if err != nil {
							t.Errorf("%s: %v", me, err)
							return
						}
						mu.Lock()
						loaded[v] = rec.AccessToken
						mu.Unlock()
					case k < 9:
						v, err := c.Save(t.Context(), testKey, &tokencache.Record{AccessToken: tokencache.Secret(me)}, known)
						if errors.Is(err, tokencache.ErrConflict) {
							continue
						}
						if err != nil {
							t.Errorf("%s: %v", me, err)
							return
						}
						note(known, me)
						known = v
						mu.Lock()
						content[v] = tokencache.Secret(me)
						saves++
						mu.Unlock()
					default:
						if known == "" {
							continue // What deletes nothing replaces nothing.
						}
						// A missing entry is not an error, so it is not known who deleted it.
						if err := c.Delete(t.Context(), testKey, known); err != nil && !errors.Is(err, tokencache.ErrConflict) {
							t.Errorf("%s: %v", me, err)
						}
						known = ""
					}
				}
			})
		}
		wg.Wait()
		for v, token := range loaded {
			if content[v] != token {
				t.Errorf("a version was loaded with the content of another: %q instead of %q", string(token), string(content[v]))
			}
		}
		if saves == 0 {
			t.Error("nothing was saved")
		}
	})
}
