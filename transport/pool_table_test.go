package transport

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
)

// A table has what was added to it and not removed since, also where hashes collide.
func TestTable(t *testing.T) {
	for _, hashes := range []uint64{1, 7, 1000, 1 << 63} {
		var tab table
		sources := make([]*Source, 300)
		for i := range sources {
			sources[i] = &Source{account: fmt.Sprint(i), hash: rand.Uint64N(hashes)}
		}
		in := make(map[*Source]bool)
		for range 20_000 {
			s := sources[rand.N(len(sources))]
			if in[s] {
				tab.remove(s)
			} else {
				tab.add(s)
			}
			in[s] = !in[s]
			s = sources[rand.N(len(sources))]
			if got := tab.find(s.account, s.hash); (got == s) != in[s] || got != nil && got != s {
				t.Fatalf("of %d hashes, found %p, want %p: %t", hashes, got, s, in[s])
			}
		}
		if n := len(slices.DeleteFunc(sources, func(s *Source) bool { return !in[s] })); n != tab.size {
			t.Errorf("the table counts %d, there are %d", tab.size, n)
		}
	}
}

// Who looks while somebody changes the table finds the Source asked for, or none, and comes
// to an end. Who changes it misses nothing.
func TestTableWhileItChanges(t *testing.T) {
	for range 20 {
		var tab table
		sources := make([]*Source, 2000)
		for i := range sources {
			sources[i] = &Source{account: fmt.Sprint(i), hash: rand.Uint64N(500)}
		}
		stays := sources[:100]
		for _, s := range stays {
			tab.add(s)
		}
		var done atomic.Bool
		var looking sync.WaitGroup
		for range 2 {
			looking.Go(func() {
				for !done.Load() {
					s := sources[rand.N(len(sources))]
					if got := tab.find(s.account, s.hash); got != nil && got != s {
						t.Errorf("found %s, want %s", got.account, s.account)
					}
				}
			})
		}
		for round := range 3 {
			for _, s := range sources[100:] {
				tab.add(s)
			}
			for _, s := range stays {
				if tab.find(s.account, s.hash) != s {
					t.Errorf("round %d: %s is missing", round, s.account)
				}
			}
			for _, i := range rand.Perm(len(sources) - 100) {
				tab.remove(sources[100+i])
			}
		}
		done.Store(true)
		looking.Wait()
	}
}
