package export_test

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/stayauth/stayauth/tokencache"
	"github.com/stayauth/stayauth/tokencache/export"
)

// importEnv names the directory into whose cache a child process imports the export that is
// there.
const importEnv = "STAYAUTH_TEST_IMPORT"

func TestMain(m *testing.M) {
	if dir := os.Getenv(importEnv); dir != "" {
		go func() {
			io.Copy(io.Discard, os.Stdin)
			os.Exit(3) // the parent is gone
		}()
		if err := importInto(dir); err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

func importInto(dir string) error {
	pem, err := os.ReadFile(filepath.Join(dir, "private.pem"))
	if err != nil {
		return err
	}
	key, err := export.ParsePrivateKey(pem)
	if err != nil {
		return err
	}
	file, err := os.Open(filepath.Join(dir, "file"))
	if err != nil {
		return err
	}
	defer file.Close()
	cache, err := openCache(dir)
	if err != nil {
		return err
	}
	fmt.Println("ready")
	_, _, err = cache.Import(context.Background(), export.Read(bufio.NewReader(file), key))
	return err
}

func openCache(dir string) (*tokencache.Cache, error) {
	store, err := tokencache.OpenDir(filepath.Join(dir, "logins"))
	if err != nil {
		return nil, err
	}
	return tokencache.New(store, tokencache.KeyFile(filepath.Join(dir, "key")))
}

// An import whose process is killed, again and again, loses no login, nor what another process
// has refreshed meanwhile; the one that is not killed completes it.
func TestKilledImports(t *testing.T) {
	const logins, kills = 200, 15
	dir := t.TempDir()
	public, _ := goldenKeys(t)
	pem, err := os.ReadFile(goldens + "private.pem")
	err = errors.Join(err, os.WriteFile(filepath.Join(dir, "private.pem"), pem, 0o600),
		os.WriteFile(filepath.Join(dir, "file"), written(t, public, records(logins)...), 0o600))
	if err != nil {
		t.Fatal(err)
	}
	cache, err := openCache(dir)
	if err != nil {
		t.Fatal(err)
	}
	want := records(logins)
	ctx, stop := context.WithCancel(t.Context())
	var refresher sync.WaitGroup
	refresher.Go(func() {
		for ctx.Err() == nil {
			r := want[rand.N(logins)]
			generation, err := refresh(t.Context(), cache, r.Key)
			if err != nil {
				t.Error(err)
				return
			}
			r.Generation = max(r.Generation, generation)
			time.Sleep(rand.N(time.Millisecond))
		}
	})
	for n := range kills + 1 {
		cmd := exec.Command(os.Args[0], "-test.run=^$")
		cmd.Env = append(os.Environ(), importEnv+"="+dir)
		if _, err := cmd.StdinPipe(); err != nil {
			t.Fatal(err)
		}
		output, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		if line, err := bufio.NewReader(output).ReadBytes('\n'); err != nil || !bytes.Equal(line, []byte("ready\n")) {
			t.Fatalf("the child says %q, %v", line, err)
		}
		if n < kills {
			time.Sleep(rand.N(60 * time.Millisecond))
			cmd.Process.Kill()
			cmd.Wait()
		} else if err := cmd.Wait(); err != nil {
			t.Fatal(err)
		}
	}
	stop()
	refresher.Wait()
	for _, r := range want {
		got, _, err := cache.Load(t.Context(), r.Key)
		if err != nil || got.Generation != r.Generation || got.LoginID != r.LoginID {
			t.Errorf("%s: generation %d, %v, want %d", r.Key.Account, got.Generation, err, r.Generation)
		}
	}
}

// refresh saves the next generation of a login, if it is there, and returns that.
func refresh(ctx context.Context, cache *tokencache.Cache, key tokencache.Key) (uint64, error) {
	unlock, err := cache.Lock(ctx, key)
	if err != nil {
		return 0, err
	}
	defer unlock()
	r, v, err := cache.Load(ctx, key)
	if errors.Is(err, tokencache.ErrNotFound) {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	r.Generation++
	_, err = cache.Save(ctx, key, r, v)
	return r.Generation, err
}
