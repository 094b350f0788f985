package oskeyring

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stayauth/stayauth/testdata/realparts"
	"github.com/stayauth/stayauth/tokencache"
)

// A write that was given up may still happen. Until it has, nobody else writes, and
// who does so then sees it.
func TestAbandonedWriteOverwritesNothing(t *testing.T) {
	for _, happens := range []bool{true, false} {
		realparts.Bubble(t, func(t *testing.T) {
			ctx, dir := t.Context(), t.TempDir()
			release := make(chan error)
			f := new(fake)
			cfg := func() Config { // of a process
				c := f.config(dir)
				c.Timeout = 5 * time.Second
				return c
			}
			here, other := mustItems(t, cfg()), mustItems(t, cfg())
			v, err := here.Save(ctx, "a", []byte("old"), "")
			if err != nil {
				t.Fatal(err)
			}
			f.before = func(op, _ string) error {
				if op != "set" {
					return nil
				}
				return <-release
			}
			_, err = here.Save(ctx, "a", []byte("abandoned"), v)
			wantProblem(t, err, NoAnswer)

			// Here that is known at once, elsewhere when the time for it has passed.
			for _, c := range []struct {
				items *Items
				waits time.Duration
			}{{here, 0}, {other, 5 * time.Second}} {
				start := time.Now()
				_, err = c.items.Save(ctx, "a", []byte("newer"), v)
				wantProblem(t, err, NoAnswer)
				if d := time.Since(start); d/time.Second != c.waits/time.Second {
					t.Errorf("Save while a write is under way: %v after %v, want %v", err, d, c.waits)
				}
			}
			if n := f.sets.Load(); n != 4 { // two probes, old, abandoned
				t.Fatalf("%d writes", n)
			}

			// Now it happens, or fails.
			if happens {
				release <- nil
			} else {
				release <- errors.New("the keyring is restarted")
			}
			synctest.Wait()
			f.before = nil
			_, err = other.Save(ctx, "a", []byte("newer"), v)
			want := "newer"
			if happens {
				want = "abandoned"
				if !errors.Is(err, tokencache.ErrConflict) {
					t.Errorf("Save at a version that is gone: %v", err)
				}
			} else if err != nil {
				t.Error(err)
			}
			if data, _, err := here.Load(ctx, "a"); err != nil || string(data) != want {
				t.Errorf("loaded %q, %v, want %q", data, err, want)
			}
		})
	}
}

// A caller who gives up while the item is being read does not write afterwards.
func TestAbandonedReadWritesNothing(t *testing.T) {
	realparts.Bubble(t, func(t *testing.T) {
		f := new(fake)
		s := mustItems(t, f.config(t.TempDir()))
		s.keyring.timeout = 5 * time.Second
		f.before = func(string, string) error { time.Sleep(3 * time.Second); return nil }
		sets := f.sets.Load()
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, err := s.Save(ctx, "a", nil, ""); !errors.Is(err, context.DeadlineExceeded) {
			t.Fatal(err)
		}
		time.Sleep(time.Minute)
		if f.sets.Load() != sets {
			t.Error("it was written after all")
		}
	})
}
