package tokencache_test

import (
	"bytes"
	"context"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/stayauth/stayauth/testdata/realparts/keycheck"
	"github.com/stayauth/stayauth/tokencache"
	"github.com/stayauth/stayauth/tokencache/publickey"
)

// rekeyEnv names the directory in which a child process changes the keys for as
// long as it lives.
const rekeyEnv = "STAYAUTH_TEST_REKEY"

func TestMain(m *testing.M) {
	if dir := os.Getenv(rekeyEnv); dir != "" {
		go func() {
			io.Copy(io.Discard, os.Stdin)
			os.Exit(3) // the parent is gone
		}()
		fmt.Println(rekeyForEver(dir))
		os.Exit(1)
	}
	os.Exit(m.Run())
}

func rekeyForEver(dir string) error {
	c, err := openRekeyCache(dir)
	fmt.Println("ready")
	for err == nil {
		service := fileService(dir)
		if service.there() {
			err = service.rotate(true)
		}
		if err == nil {
			err = c.Rekey(context.Background())
		}
		if err == nil && service.there() {
			err = service.rotate(false)
		}
	}
	return err
}

func openRekeyCache(dir string) (*tokencache.Cache, error) {
	store, err := tokencache.OpenDir(filepath.Join(dir, "tokens"))
	if err != nil {
		return nil, err
	}
	if service := fileService(dir); service.there() {
		return tokencache.NewEnveloped(store, tokencache.Envelope{Wrapper: service, MaxKeys: 2})
	}
	return tokencache.New(store, tokencache.KeyFile(filepath.Join(dir, "key")))
}

// A fileService is a KeyWrapper whose keys are in a file of a directory, for all processes.
type fileService string

func (s fileService) file() string { return filepath.Join(string(s), "keys.pem") }

func (s fileService) there() bool { return len(s.read()) > 0 }

func (s fileService) read() []byte {
	keys, _ := os.ReadFile(s.file())
	return keys
}

// rotate puts a new key before the others, or else forgets all but the first.
func (s fileService) rotate(add bool) error {
	keys := s.read()
	if add {
		key, err := keycheck.NewPrivateKey()
		if err != nil {
			return err
		}
		keys = append(key, keys...)
	} else if _, rest := pem.Decode(keys); len(rest) > 0 {
		keys = keys[:len(keys)-len(rest)]
	}
	temp := s.file() + ".new"
	if err := os.WriteFile(temp, keys, 0o600); err != nil {
		return err
	}
	return os.Rename(temp, s.file())
}

func (s fileService) WrapKey(ctx context.Context, key []byte) (w tokencache.WrappedKey, err error) {
	wrapper, err := publickey.NewWrapper(s.read())
	if err != nil {
		return w, err
	}
	return wrapper.WrapKey(ctx, key)
}

func (s fileService) UnwrapKey(ctx context.Context, w tokencache.WrappedKey) ([]byte, error) {
	wrapper, err := publickey.NewWrapper(s.read())
	if err != nil {
		return nil, err
	}
	return wrapper.UnwrapKey(ctx, w)
}

func account(i int) tokencache.Key { return tokencache.Key{Account: strconv.Itoa(i)} }

func countKeys(t *testing.T, dir string) int {
	t.Helper()
	if service := fileService(dir); service.there() {
		return bytes.Count(service.read(), []byte("BEGIN PRIVATE KEY"))
	}
	return len(mustKeys(t, tokencache.KeyFile(filepath.Join(dir, "key"))))
}

func TestRekey(t *testing.T) {
	dir := t.TempDir()
	mustOpen := func() *tokencache.Cache {
		c, err := openRekeyCache(dir)
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	ctx := t.Context()
	c, other := mustOpen(), mustOpen()
	versions := make([]tokencache.Version, 5)
	for i := range versions {
		var err error
		if versions[i], err = other.Save(ctx, account(i), testRecord(), ""); err != nil {
			t.Fatal(err)
		}
	}
	oldKeys := tokencache.KeyBytes(mustKeys(t, tokencache.KeyFile(filepath.Join(dir, "key")))...)
	if err := c.Rekey(ctx); err != nil {
		t.Fatal(err)
	}
	if n := countKeys(t, dir); n != 1 {
		t.Errorf("%d keys are left", n)
	}
	// The other process knows the old key alone. It must not seal with it any more.
	if _, err := other.Save(ctx, account(0), testRecord(), versions[0]); !errors.Is(err, tokencache.ErrConflict) {
		t.Errorf("Save at a version from before Rekey: %v", err)
	}
	if _, err := other.Save(ctx, account(99), testRecord(), ""); err != nil {
		t.Error(err)
	}
	withOld := newCache(t, openDir(t, filepath.Join(dir, "tokens")), oldKeys)
	for _, i := range []int{0, 1, 2, 3, 4, 99} {
		for _, c := range []*tokencache.Cache{c, other, mustOpen()} {
			if _, _, err := c.Load(ctx, account(i)); err != nil {
				t.Errorf("record %d: %v", i, err)
			}
		}
		_, _, err := withOld.Load(ctx, account(i))
		wantErr(t, err, tokencache.ErrCorrupt, "another key")
	}
}

func TestRekeyKeepsTheOldKeysIfARecordCannotBeOpened(t *testing.T) {
	dir := t.TempDir()
	c, err := openRekeyCache(dir)
	if err != nil {
		t.Fatal(err)
	}
	store := openDir(t, filepath.Join(dir, "tokens"))
	v, err := store.Save(t.Context(), "foreign", []byte("junk"), "")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.Save(t.Context(), testKey, testRecord(), ""); err != nil {
		t.Fatal(err)
	}
	wantErr(t, c.Rekey(t.Context()), tokencache.ErrCorrupt, "foreign", "old keys are kept")
	if n := countKeys(t, dir); n != 2 {
		t.Errorf("%d keys are left, want the new and the old", n)
	}
	if err := store.Delete(t.Context(), "foreign", v); err != nil {
		t.Fatal(err)
	}
	if err := c.Rekey(t.Context()); err != nil {
		t.Error(err)
	}
	if n := countKeys(t, dir); n != 1 {
		t.Errorf("%d keys are left", n)
	}
}

func TestRekeyWantsARotatorAndALister(t *testing.T) {
	for name, c := range map[string]*tokencache.Cache{
		"no keys":   newCache(t, new(tokencache.Memory), nil),
		"KeyBytes":  newCache(t, new(tokencache.Memory), tokencache.KeyBytes(bytesKey(1))),
		"no lister": newCache(t, struct{ tokencache.Store }{new(tokencache.Memory)}, tokencache.KeyFile(filepath.Join(t.TempDir(), "key"))),
	} {
		if err := c.Rekey(t.Context()); !errors.Is(err, errors.ErrUnsupported) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// Processes that change the keys are killed at any moment, while others, who know
// older keys, go on saving: every record must be readable throughout.
func TestRekeySurvivesSIGKILL(t *testing.T) {
	t.Run("key file", func(t *testing.T) { rekeySurvivesSIGKILL(t, t.TempDir()) })
	t.Run("enveloped", func(t *testing.T) {
		dir := t.TempDir()
		if err := fileService(dir).rotate(true); err != nil {
			t.Fatal(err)
		}
		rekeySurvivesSIGKILL(t, dir)
	})
}

func rekeySurvivesSIGKILL(t *testing.T, dir string) {
	const records = 4
	mustOpen := func() *tokencache.Cache {
		c, err := openRekeyCache(dir)
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	for i := range records {
		if _, err := mustOpen().Save(t.Context(), account(i), testRecord(), ""); err != nil {
			t.Fatal(err)
		}
	}
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	var wg sync.WaitGroup
	for i := range records {
		user := mustOpen()
		wg.Go(func() {
			for ctx.Err() == nil {
				if err := refreshOrLogIn(t.Context(), user, account(i)); err != nil {
					t.Error(err)
					return
				}
				time.Sleep(rand.N(5 * time.Millisecond))
			}
		})
	}
	rotated := false
	for kills := 0; kills < 25 || !rotated && kills < 500; kills++ { // The moment is up to chance.
		cmd := exec.Command(os.Args[0], "-test.run=^$")
		cmd.Env = append(os.Environ(), rekeyEnv+"="+dir)
		cmd.Stderr = os.Stderr
		if _, err := cmd.StdinPipe(); err != nil {
			t.Fatal(err)
		}
		output, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		before := countKeys(t, dir)
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		if _, err := output.Read(make([]byte, 1)); err != nil {
			t.Fatalf("waiting for the child to begin: %v", err)
		}
		time.Sleep(rand.N(100 * time.Millisecond))
		cmd.Process.Kill()
		cmd.Wait()
		rotated = rotated || countKeys(t, dir) != before
		fresh := mustOpen()
		for i := range records {
			_, _, err := fresh.Load(t.Context(), account(i))
			if err != nil && !errors.Is(err, tokencache.ErrNotFound) {
				t.Fatal(err)
			}
		}
	}
	stop()
	wg.Wait()
	if !rotated {
		t.Error("no process was killed in the middle of a change of keys")
	}
	c := mustOpen()
	if err := c.Rekey(t.Context()); err != nil {
		t.Fatal(err)
	}
	if service := fileService(dir); service.there() {
		if err := service.rotate(false); err != nil {
			t.Fatal(err)
		}
		c = mustOpen()
	}
	if n := countKeys(t, dir); n != 1 {
		t.Errorf("%d keys are left", n)
	}
	for i := range records {
		if _, _, err := c.Load(t.Context(), account(i)); err != nil {
			t.Error(err)
		}
	}
}

// refreshOrLogIn replaces a record, or now and then deletes it and makes a new one.
func refreshOrLogIn(ctx context.Context, c *tokencache.Cache, key tokencache.Key) error {
	r, v, err := c.Load(ctx, key)
	if err != nil {
		return err
	}
	if rand.IntN(3) == 0 {
		if err = c.Delete(ctx, key, v); err == nil {
			v = ""
		}
	}
	if err == nil {
		r.Generation++
		_, err = c.Save(ctx, key, r, v)
	}
	if errors.Is(err, tokencache.ErrConflict) {
		return nil // Rekey was faster; the next round sees what it has saved
	}
	return err
}
