//go:build linux

package oskeyring

import (
	"math/rand/v2"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stayauth/stayauth/tokencache"
)

// A killer kills processes at random moments.
type killer struct {
	// within is the time after a child's first line in which it is killed. It adapts to
	// the machine, so that the moments are spread over all that the child does from one
	// line to the next.
	within time.Duration
	done   int // how often children have got from one line to the next
}

func newKiller() *killer { return &killer{within: 100 * time.Millisecond} }

// kill runs a child, kills it after its first line, and returns the number on its
// last line.
func (k *killer) kill(t *testing.T, j job) int {
	t.Helper()
	cmd, lines := start(t, j)
	stuck := time.AfterFunc(patience, func() { cmd.Process.Kill() })
	defer stuck.Stop()
	n, last := 0, 0
	for ; lines.Scan(); n++ {
		var err error
		if last, err = strconv.Atoi(lines.Text()); err != nil {
			t.Fatal(lines.Text())
		}
		if n == 0 {
			time.AfterFunc(rand.N(k.within), func() { cmd.Process.Kill() })
		}
	}
	cmd.Wait()
	switch n {
	case 0:
		t.Fatal("the child did not begin")
	case 1:
		k.within += k.within / 10
	case 2:
	default:
		k.within -= k.within / 10
	}
	k.done += n - 1
	return last
}

// kills runs f four times at once, so that 200 kills, or fewer in a quick run, are
// spread over them.
func kills(t *testing.T, f func(t *testing.T, n int)) {
	const parts = 4
	useKeyring(t)
	for i := range parts {
		t.Run(strconv.Itoa(i), func(t *testing.T) {
			t.Parallel()
			f(t, full(200)/parts)
		})
	}
}

// Whenever the first start of a program is killed, the next one finds no key or a
// good one, and what is sealed then can be opened ever after.
func TestKilledWhileCreatingTheKey(t *testing.T) { kills(t, killedWhileCreatingTheKey) }

func killedWhileCreatingTheKey(t *testing.T, n int) {
	k := newKiller()
	for range n {
		dir := t.TempDir()
		last := k.kill(t, job{Do: "create", Dir: dir})
		dir = filepath.Join(dir, strconv.Itoa(last))
		cache, _ := mustOpen(t, realConfig(dir))
		save(t, cache)
		cache, _ = mustOpen(t, realConfig(dir))
		wantLoad(t, cache)
	}
	t.Log(n, "kills,", k.done, "keys made")
}

func TestKilledDuringRekey(t *testing.T) { kills(t, killedDuringRekey) }

func killedDuringRekey(t *testing.T, n int) {
	dir := t.TempDir()
	keys := []tokencache.Key{{Account: "ann"}, {Account: "bob"}, {Account: "cy"}}
	cache, _ := mustOpen(t, realConfig(dir))
	for _, k := range keys {
		if _, err := cache.Save(t.Context(), k, &tokencache.Record{RefreshToken: tokencache.Secret(k.Account)}, ""); err != nil {
			t.Fatal(err)
		}
	}
	k := newKiller()
	for range n {
		k.kill(t, job{Do: "rekey", Dir: dir})
		// A process that knows only old keys, and one that starts now.
		other, _ := mustOpen(t, realConfig(dir))
		for _, c := range []*tokencache.Cache{cache, other} {
			for _, key := range keys {
				if r, _, err := c.Load(t.Context(), key); err != nil || string(r.RefreshToken) != key.Account {
					t.Fatal(r, err)
				}
			}
		}
	}
	t.Log(n, "kills,", k.done, "times completed")
	if err := cache.Rekey(t.Context()); err != nil {
		t.Fatal(err)
	}
}

func TestKilledDuringItemsSave(t *testing.T) { kills(t, killedDuringItemsSave) }

func killedDuringItemsSave(t *testing.T, n int) {
	dir := t.TempDir()
	cache, err := itemsCache(dir)
	if err != nil {
		t.Fatal(err)
	}
	token := strings.Repeat("refresh token ", 100)
	if _, err := cache.Save(t.Context(), testKey, &tokencache.Record{RefreshToken: tokencache.Secret(token)}, ""); err != nil {
		t.Fatal(err)
	}
	k := newKiller()
	for range n {
		saved := uint64(k.kill(t, job{Do: "save", Dir: dir}))
		r, _, err := cache.Load(t.Context(), testKey)
		if err != nil || string(r.RefreshToken) != token {
			t.Fatal(err)
		}
		if r.Generation != saved && r.Generation != saved+1 {
			t.Fatalf("generation %d, saved was %d", r.Generation, saved)
		}
	}
	t.Log(n, "kills,", k.done, "times saved")
}
