package tokencache_test

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stayauth/stayauth/testdata/realparts/disk"
	"github.com/stayauth/stayauth/tokencache"
)

var allFaults = flag.Bool("disk-faults", false, "let every system call fail with every error, not a sample of them")

// diskProgram is the environment variable that makes this binary a program that uses a Dir and a
// key file below its working directory. Its value says for what.
const diskProgram = "STAYAUTH_TEST_DISK"

func init() {
	if use, ok := disk.In(diskProgram); ok {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		if err := diskPrograms[use].run(ctx); err != nil {
			fmt.Println("failed:", kindOf(err))
		}
		os.Exit(0)
	}
}

// kindOf names the error that programs ask for.
func kindOf(err error) string {
	for _, kind := range []error{tokencache.ErrNotFound, tokencache.ErrCorrupt, tokencache.ErrConflict, tokencache.ErrUnavailable} {
		if errors.Is(err, kind) {
			return kind.Error()
		}
	}
	return "something else: " + err.Error()
}

// A diskUse is what a program does.
type diskUse struct {
	accounts []string // who has logged in before
	deletes  bool     // the login of ann
	run      func(context.Context) error
}

var diskPrograms = map[string]diskUse{
	// The first login, of which there is nothing before.
	"login": {nil, false, func(ctx context.Context) error {
		disk.Begin()
		c, err := diskCache(".")
		if err != nil {
			return err
		}
		return generations(ctx, c, "", 1)
	}},
	// A refresh: read, lock, make sure of space, note that it is under way, store the answer, unlock.
	"refresh": {[]string{"ann"}, false, func(ctx context.Context) error {
		disk.Begin()
		c, err := diskCache(".")
		if err != nil {
			return err
		}
		unlock, err := c.Lock(ctx, diskKey("ann"))
		if err != nil {
			return err
		}
		r, v, err := c.Load(ctx, diskKey("ann"))
		if err == nil {
			err = c.Preflight(ctx, diskKey("ann"), r)
		}
		if err == nil {
			err = generations(ctx, c, v, 2, 3)
		}
		return errors.Join(err, unlock())
	}},
	"rekey": {[]string{"ann", "bob"}, false, func(ctx context.Context) error {
		disk.Begin()
		c, err := diskCache(".")
		if err == nil {
			err = c.Rekey(ctx)
		}
		return err
	}},
	"logout": {[]string{"ann"}, true, func(ctx context.Context) error {
		disk.Begin()
		c, err := diskCache(".")
		if err != nil {
			return err
		}
		_, v, err := c.Load(ctx, diskKey("ann"))
		if err == nil {
			err = c.Delete(ctx, diskKey("ann"), v)
		}
		if err == nil {
			fmt.Println("deleted")
		}
		return err
	}},
}

func diskKey(account string) tokencache.Key {
	return tokencache.Key{Issuer: "https://as.test", ClientID: "client", Account: account}
}

func diskCache(dir string) (*tokencache.Cache, error) {
	d, err := tokencache.OpenDir(filepath.Join(dir, "logins"))
	if err != nil {
		return nil, err
	}
	return tokencache.New(d, tokencache.KeyFile(filepath.Join(dir, "keys", "key")))
}

// generations stores Ann's next refresh tokens, and says so after each.
func generations(ctx context.Context, c *tokencache.Cache, v tokencache.Version, all ...uint64) (err error) {
	for _, n := range all {
		if v, err = c.Save(ctx, diskKey("ann"), diskRecord(n), v); err != nil {
			return err
		}
		fmt.Println("saved", n)
	}
	return nil
}

func diskRecord(generation uint64) *tokencache.Record {
	return &tokencache.Record{AccessToken: "at", RefreshToken: tokencache.Secret(fmt.Sprintf("rt %d %s", generation, strings.Repeat("x", 300))), Generation: generation}
}

// prepared returns the program in a directory of its own, with the logins that it needs.
func (u diskUse) prepared(t testing.TB, use, dir string) disk.Program {
	t.Helper()
	for _, account := range u.accounts {
		c, err := diskCache(dir)
		if err == nil {
			_, err = c.Save(t.Context(), diskKey(account), diskRecord(1), "")
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	return disk.Program{Env: diskProgram, Value: use, Dir: dir}
}

// check says what is wrong with what the program has left in dir, after what it has said.
func (u diskUse) check(ctx context.Context, dir, said string) error {
	c, err := diskCache(dir)
	if err != nil {
		return err
	}
	saved := uint64(min(len(u.accounts), 1))
	for n := range uint64(4) {
		if strings.Contains(said, fmt.Sprintf("saved %d\n", n)) {
			saved = n
		}
	}
	deleted := strings.Contains(said, "deleted")
	for _, account := range slices.Compact(append([]string{"ann"}, u.accounts...)) {
		r, v, err := c.Load(ctx, diskKey(account))
		absent := errors.Is(err, tokencache.ErrNotFound)
		switch {
		case absent && (saved == 0 || u.deletes):
		case err != nil:
			return fmt.Errorf("%s: %w", account, err)
		case deleted:
			return fmt.Errorf("%s is still logged in", account)
		case r.RefreshToken != diskRecord(r.Generation).RefreshToken || account == "ann" && r.Generation < saved:
			return fmt.Errorf("%s: generation %d is stored, and %d was", account, r.Generation, saved)
		}
		// What is left does not keep the next one from working.
		if _, err := c.Save(ctx, diskKey(account), diskRecord(9), v); err != nil {
			return fmt.Errorf("%s, the next time: %w", account, err)
		}
	}
	if err := c.Rekey(ctx); err != nil {
		return fmt.Errorf("rekey, the next time: %w", err)
	}
	return nil
}

// sample returns 60 of all, any, unless all are asked for.
func sample[T any](all []T) []T {
	if *allFaults {
		return all
	}
	all = slices.Clone(all)
	rand.Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] })
	return all[:min(len(all), 60)]
}

// Whatever a disk refuses, no login is lost that it still holds, and nothing is said to be stored
// that is not. A failure is never taken for a logout or for damage.
func TestEverySystemCallFails(t *testing.T) {
	t.Parallel()
	disk.Require(t)
	for use, u := range diskPrograms {
		t.Run(use, func(t *testing.T) {
			t.Parallel()
			faults := u.prepared(t, use, t.TempDir()).Faults(t)
			if len(faults) < 50 {
				t.Fatalf("only %d faults", len(faults))
			}
			all := len(faults)
			faults = sample(faults)
			var failed, ended atomic.Int64
			var wg sync.WaitGroup
			turns := make(chan struct{}, 4)
			for _, f := range faults {
				dir := t.TempDir()
				turns <- struct{}{}
				wg.Go(func() {
					defer func() { <-turns }()
					said, err := u.prepared(t, use, dir).Run(f)
					if err != nil {
						t.Errorf("%s: %v", f, err)
					}
					if strings.Contains(said, "failed") {
						failed.Add(1)
						if !strings.Contains(said, "failed: "+tokencache.ErrUnavailable.Error()) {
							t.Errorf("%s: the program says %q", f, said)
						}
					}
					if err := u.check(t.Context(), dir, said); err != nil {
						t.Errorf("%s: the program says %q, and then: %v", f, said, err)
					}
					ended.Add(1)
				})
			}
			wg.Wait()
			t.Logf("%d of %d faults tried, %d told to the program", ended.Load(), all, failed.Load())
			if failed.Load() == 0 {
				t.Error("the program has noticed none")
			}
		})
	}
}

// Whenever the power fails, each login is the old or the new one, whole, and what was said to be
// stored is stored.
func TestPowerFails(t *testing.T) {
	t.Parallel()
	disk.Require(t)
	for use, u := range diskPrograms {
		t.Run(use, func(t *testing.T) {
			t.Parallel()
			all := u.prepared(t, use, t.TempDir()).PowerFails(t, func(name string) bool { return strings.HasPrefix(name, ".tmp-") })
			bad, tried := 0, sample(all)
			for _, s := range tried {
				dir := t.TempDir()
				if err := s.Write(dir); err != nil {
					t.Fatal(err)
				}
				if err := u.check(t.Context(), dir, s.Said); err != nil {
					if bad++; bad < 10 {
						t.Errorf("the program has said %q, and the power fails: %v", s.Said, err)
					}
				}
				os.RemoveAll(dir)
			}
			t.Logf("%d of %d states tried, %d bad", len(tried), len(all), bad)
			if !slices.ContainsFunc(all, func(s disk.State) bool { return len(s.Files) > 3 }) {
				t.Error("nothing was stored")
			}
		})
	}
}
