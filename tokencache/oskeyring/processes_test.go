//go:build linux

package oskeyring

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/oauth2"

	"github.com/stayauth/stayauth/tokencache"
	"github.com/stayauth/stayauth/tokencache/storetest"
	"github.com/stayauth/stayauth/transport"
	"github.com/stayauth/stayauth/transport/oauthtest"
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
	cmd.Env = append(os.Environ(), jobEnv+"="+string(order))
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

// killed runs a child, kills it at a random moment after its first line, and
// returns the number on its last line.
func killed(t *testing.T, j job, within time.Duration) int {
	t.Helper()
	cmd, lines := start(t, j)
	stuck := time.AfterFunc(time.Minute, func() { cmd.Process.Kill() })
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

// countingBackend counts how often it reads an item of the real keyring.
type countingBackend struct {
	goKeyring
	reads atomic.Int64
}

func (b *countingBackend) Get(service, user string) (string, error) {
	b.reads.Add(1)
	return b.goKeyring.Get(service, user)
}

// short makes every token expire at once, so that each use of it is a rotation.
type short struct{ *transport.Endpoint }

func (s short) Refresh(ctx context.Context, r *tokencache.Record) (*tokencache.Record, error) {
	next, err := s.Endpoint.Refresh(ctx, r)
	if next != nil {
		next.Expiry = next.ObtainedAt
	}
	return next, err
}

func (j job) source() (*transport.Source, func() int64, error) {
	c := realConfig(j.Dir)
	b := new(countingBackend)
	c.backend, c.guard = b, &system
	cache, _, err := c.Open(context.Background())
	if err != nil {
		return nil, nil, err
	}
	s, err := transport.NewSource(transport.SourceConfig{
		Cache:     cache,
		Refresher: short{&transport.Endpoint{TokenURL: j.URL, ClientID: "client", ClientSecret: "secret", AuthStyle: oauth2.AuthStyleInHeader}},
		Logger:    slog.New(slog.DiscardHandler),
	})
	return s, b.reads.Load, err
}

func (j job) rotate(ctx context.Context) error {
	s, reads, err := j.source()
	if err != nil {
		return err
	}
	for range j.Count {
		if _, err := s.Token(ctx); err != nil {
			return err
		}
	}
	if err := s.Close(ctx); err != nil {
		return err
	}
	fmt.Println(reads())
	return nil
}

func TestProcessesShareALogin(t *testing.T) {
	useKeyring(t)
	srv := oauthtest.New(oauthtest.Config{Policy: oauthtest.StrictFamily, ClientID: "client", ClientSecret: "secret"})
	defer srv.Close()
	if err := srv.Start(); err != nil {
		t.Fatal(err)
	}
	j := job{Do: "rotate", Dir: t.TempDir(), URL: srv.TokenURL(), Count: full(50)}
	s, _, err := j.source()
	if err != nil {
		t.Fatal(err)
	}
	login := srv.Login("ann")
	err = s.Login(t.Context(), &tokencache.Record{RefreshToken: tokencache.Secret(login.RefreshToken), AccessToken: tokencache.Secret(login.AccessToken),
		TokenType: "Bearer", ObtainedAt: time.Now(), Expiry: time.Now()})
	if err != nil {
		t.Fatal(err)
	}
	const processes = 20
	var outputs []*bufio.Scanner
	began := time.Now()
	for range processes {
		cmd, lines := start(t, j)
		stuck := time.AfterFunc(3*time.Minute, func() { cmd.Process.Kill() })
		defer stuck.Stop()
		outputs = append(outputs, lines)
	}
	var reads []string
	for _, lines := range outputs {
		for lines.Scan() {
			reads = append(reads, lines.Text())
		}
	}
	took := time.Since(began)
	if len(reads) != processes || slices.ContainsFunc(reads, func(n string) bool { return n != "1" }) {
		t.Errorf("reads of the keyring by each process, want 1: %q", reads)
	}
	want := processes * j.Count
	if c := srv.Counts(); c.Rotations != want || c.Reuses != 0 || c.InvalidGrants != 0 {
		t.Errorf("%d rotations, %d reuses, %d refused, want %d, 0 and 0", c.Rotations, c.Reuses, c.InvalidGrants, want)
	}
	cache, _ := mustOpen(t, realConfig(j.Dir))
	r, _, err := cache.Load(t.Context(), tokencache.Key{Issuer: j.URL, ClientID: "client"})
	if err != nil || r.Generation != uint64(1+want) {
		t.Errorf("the record is at generation %d, %v, want %d", r.Generation, err, 1+want)
	}
	t.Logf("%d rotations by %d processes in %v", want, processes, took)
}
