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

// killed runs a child, kills it at a random moment after its first line, and
// returns the number on its last line.
func killed(t *testing.T, j job, within time.Duration) int {
	t.Helper()
	cmd, lines := start(t, j)
	stuck := time.AfterFunc(patience, func() { cmd.Process.Kill() })
	defer stuck.Stop()
	last := -1
	for lines.Scan() {
		n, err := strconv.Atoi(lines.Text())
		if err != nil {
			t.Fatal(lines.Text())
		}
		if last < 0 {
			time.AfterFunc(rand.N(within), func() { cmd.Process.Kill() })
		}
		last = n
	}
	cmd.Wait()
	if last < 0 {
		t.Fatal("the child did not begin")
	}
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
	for range n {
		dir := t.TempDir()
		last := killed(t, job{Do: "create", Dir: dir}, 100*time.Millisecond)
		dir = filepath.Join(dir, strconv.Itoa(last))
		cache, _ := mustOpen(t, realConfig(dir))
		save(t, cache)
		cache, _ = mustOpen(t, realConfig(dir))
		wantLoad(t, cache)
	}
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
	rekeyed := 0
	for range n {
		rekeyed += killed(t, job{Do: "rekey", Dir: dir}, 150*time.Millisecond)
		// A process that knows only old keys, and one that starts now.
		other, _ := mustOpen(t, realConfig(dir))
		for _, c := range []*tokencache.Cache{cache, other} {
			for _, k := range keys {
				if r, _, err := c.Load(t.Context(), k); err != nil || string(r.RefreshToken) != k.Account {
					t.Fatal(r, err)
				}
			}
		}
	}
	t.Log(rekeyed, "times completed")
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
	for range n {
		saved := uint64(killed(t, job{Do: "save", Dir: dir}, 100*time.Millisecond))
		r, _, err := cache.Load(t.Context(), testKey)
		if err != nil || string(r.RefreshToken) != token {
			t.Fatal(err)
		}
		if r.Generation != saved && r.Generation != saved+1 {
			t.Fatalf("generation %d, saved was %d", r.Generation, saved)
		}
	}
}
