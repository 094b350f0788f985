//go:build linux

package oskeyring

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"testing"

	"github.com/stayauth/stayauth/tokencache"
	"github.com/stayauth/stayauth/tokencache/storetest"
)

func TestMain(m *testing.M) {
	storetest.Child(openItems)
	child()
	os.Exit(m.Run())
}

func openItems(dir string) (tokencache.Store, error) {
	return realConfig(dir).Items(context.Background())
}

func TestItemsIsAStore(t *testing.T) {
	useKeyring(t)
	storetest.RunShared(t, func(t *testing.T) string { return t.TempDir() }, openItems, storetest.Increments(100))
}

// full returns n for a complete run, and less for a quick one.
func full(n int) int {
	if os.Getenv("STAYAUTH_REQUIRE") == "all" {
		return n
	}
	return n / 10
}

// A job is what a child process does.
type job struct {
	Do    string
	Dir   string
	URL   string // of the token endpoint
	Count int
	Ask   bool // it may ask the user, and says "prompt" when it does
}

const jobEnv = "OSKEYRING_TEST_JOB"

// child does the work of a child process, and exits.
func child() {
	order, ok := os.LookupEnv(jobEnv)
	if !ok {
		return
	}
	go func() {
		io.Copy(io.Discard, os.Stdin)
		os.Exit(3) // the parent is gone
	}()
	var j job
	err := json.Unmarshal([]byte(order), &j)
	if err == nil {
		err = j.run(context.Background())
	}
	if err != nil {
		fmt.Println("error:", err)
		os.Exit(1)
	}
	os.Exit(0)
}

func (j job) run(ctx context.Context) error {
	switch j.Do {
	case "create": // one key after the other
		for i := 0; ; i++ {
			j := j
			j.Dir = filepath.Join(j.Dir, strconv.Itoa(i))
			fmt.Println(i)
			if _, _, err := realConfig(j.Dir).Open(ctx); err != nil {
				return err
			}
		}
	case "login", "use":
		cache, _, err := realConfig(j.Dir).Open(ctx)
		if err == nil && j.Do == "login" {
			_, err = cache.Save(ctx, testKey, testRecord(10), "")
		}
		if err == nil {
			_, _, err = cache.Load(ctx, testKey)
		}
		return err
	case "upgrade":
		sealed, _, err := realConfig("").Open(ctx)
		if err != nil {
			return err
		}
		c := realConfig("")
		c.App = "test-items"
		items, err := c.Items(ctx)
		if err != nil {
			return err
		}
		direct, err := tokencache.New(items, nil)
		if err != nil {
			return err
		}
		for _, cache := range []*tokencache.Cache{sealed, direct} {
			r, v, err := cache.Load(ctx, testKey)
			if err == nil && r.RefreshToken != "fixture-refresh" {
				err = errors.New("it is another login")
			}
			if err == nil {
				r.Generation++
				_, err = cache.Save(ctx, testKey, r, v)
			}
			if err != nil {
				return err
			}
		}
		return nil
	case "rekey":
		cache, _, err := realConfig(j.Dir).Open(ctx)
		for i := 0; err == nil; i++ {
			fmt.Println(i)
			err = cache.Rekey(ctx)
		}
		return err
	case "save":
		cache, err := itemsCache(j.Dir)
		for err == nil {
			var r *tokencache.Record
			var v tokencache.Version
			if r, v, err = cache.Load(ctx, testKey); err == nil {
				r.Generation++
				if _, err = cache.Save(ctx, testKey, r, v); err == nil {
					fmt.Println(r.Generation)
				}
			}
		}
		return err
	case "rotate":
		return j.rotate(ctx)
	}
	return fmt.Errorf("no job %q", j.Do)
}

func itemsCache(dir string) (*tokencache.Cache, error) {
	items, err := openItems(dir)
	if err != nil {
		return nil, err
	}
	return tokencache.New(items, nil)
}

// start starts a child. Its output comes line by line, until it ends.
func start(t *testing.T, j job) (cmd *exec.Cmd, lines *bufio.Scanner) {
	t.Helper()
	order, err := json.Marshal(j)
	if err != nil {
		t.Fatal(err)
	}
	cmd = exec.Command(os.Args[0], "-test.run=^$")
	cmd.Env = append(os.Environ(), jobEnv+"="+string(order), "GORACE=atexit_sleep_ms=0") // else -race makes each of them wait for 1 s
	cmd.Stderr = os.Stderr
	if _, err := cmd.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { cmd.Process.Kill(); cmd.Wait() })
	return cmd, bufio.NewScanner(out)
}
