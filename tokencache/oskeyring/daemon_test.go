//go:build linux

package oskeyring

import (
	"context"
	"errors"
	"math/rand/v2"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stayauth/stayauth/testdata/realparts"
	"github.com/stayauth/stayauth/tokencache"
)

func TestDaemonKilledAndRestarted(t *testing.T) {
	k := useKeyring(t)
	dir := t.TempDir()
	cache, _ := mustOpen(t, realConfig(dir))
	save(t, cache)
	items := mustItems(t, realConfig(t.TempDir()))
	v, err := items.Save(t.Context(), "a", []byte("one"), "")
	if err != nil {
		t.Fatal(err)
	}
	k.Kill()
	wantProblem(t, probeAgain(t), NoService)
	wantLoad(t, cache) // who has the key needs no keyring
	_, _, err = realConfig(dir).Open(t.Context())
	wantProblem(t, err, NoService)
	_, _, err = items.Load(t.Context(), "a")
	wantProblem(t, err, NoService)
	_, err = items.Save(t.Context(), "a", []byte("two"), v)
	wantProblem(t, err, NoService)

	startDaemon(t, k, "--unlock")
	awaitProbe(t, nil)
	if data, _, err := items.Load(t.Context(), "a"); err != nil || string(data) != "one" {
		t.Errorf("%q, %v", data, err)
	}
	if _, err := items.Save(t.Context(), "a", []byte("two"), v); err != nil {
		t.Error(err)
	}
	cache, _ = mustOpen(t, realConfig(dir))
	wantLoad(t, cache)
}

// The daemon is killed while it is at work. What it holds is whole afterwards.
func TestDaemonKilledDuringWrites(t *testing.T) {
	k := useKeyring(t)
	kill := k.Kill
	ctx := t.Context()
	items := mustItems(t, realConfig(t.TempDir()))
	v, err := items.Save(ctx, "a", []byte("0"), "")
	if err != nil {
		t.Fatal(err)
	}
	saved := 0
	for range full(20) {
		failed := make(chan error)
		go func() {
			for {
				next, err := items.Save(ctx, "a", []byte(strconv.Itoa(saved+1)), v)
				if err != nil {
					failed <- err
					return
				}
				v = next
				saved++
			}
		}()
		time.Sleep(rand.N(50 * time.Millisecond))
		kill()
		wantProblem(t, <-failed, NoService)

		kill = startDaemon(t, k, "--unlock")
		awaitProbe(t, nil)
		var data []byte
		if data, v, err = items.Load(ctx, "a"); err != nil {
			t.Fatal(err)
		}
		n, err := strconv.Atoi(string(data))
		if err != nil || n != saved && n != saved+1 {
			t.Fatalf("the daemon holds %q after %d", data, saved)
		}
		saved = n
	}
	t.Log(saved, "times saved")
}

// A daemon on a fresh account that nobody has unlocked has no keyring.
func TestNoCollection(t *testing.T) {
	k := useKeyring(t)
	k.Kill()
	k.Env = append(k.Env, "XDG_DATA_HOME="+t.TempDir())
	startDaemon(t, k)
	awaitProbe(t, &Error{NoCollection, nil})
	_, _, err := realConfig(t.TempDir()).Open(t.Context())
	wantProblem(t, err, NoCollection)
}

// startDaemon starts a keyring daemon in place of one that was killed.
func startDaemon(t *testing.T, k *realparts.SecretService, args ...string) (kill func()) {
	t.Helper()
	cmd := k.Command("gnome-keyring-daemon", append([]string{"--foreground", "--components=secrets"}, args...)...)
	cmd.Stdin = strings.NewReader("password")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	kill = func() { cmd.Process.Kill(); cmd.Wait() }
	t.Cleanup(kill)
	return kill
}

// awaitProbe waits until Probe returns what it should.
func awaitProbe(t *testing.T, want *Error) {
	t.Helper()
	var err error
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); time.Sleep(10 * time.Millisecond) {
		if err = Probe(t.Context()); want == nil && err == nil || want != nil && isProblem(err, want.Problem) {
			return
		}
	}
	t.Fatalf("Probe returned %v, want %v", err, want)
}

func TestDaemonStopped(t *testing.T) {
	useKeyring(t)
	items := mustItems(t, realConfig(t.TempDir()))
	items.keyring.timeout = 200 * time.Millisecond
	stop, goOn := freezer(t, secretsName)
	stop()
	before := runtime.NumGoroutine()
	for range 10 {
		_, err := items.Save(t.Context(), "a", nil, "")
		wantProblem(t, err, NoAnswer)
	}
	if n := runtime.NumGoroutine(); n > before+10 {
		t.Errorf("%d goroutines, %d before", n, before)
	}
	goOn()
	awaitProbe(t, nil)
	items.keyring.timeout = patience
	if _, err := items.Save(t.Context(), "a", []byte("one"), ""); err != nil {
		t.Error(err)
	}
}

// hooked calls a function when an item is about to be written.
type hooked struct {
	goKeyring
	beforeSet func()
}

func (b *hooked) Set(service, user, value, home string) error {
	b.beforeSet()
	return b.goKeyring.Set(service, user, value, home)
}

// A write that was given up is carried out by a daemon that goes on. What somebody
// else wants to write has to wait for that.
func TestDaemonStoppedDuringWrite(t *testing.T) {
	useKeyring(t)
	ctx, dir := t.Context(), t.TempDir()
	b := &hooked{beforeSet: func() {}}
	process := func() *Items {
		c := realConfig(dir)
		c.backend, c.guard = b, new(guard)
		return mustItems(t, c)
	}
	here, other := process(), process()
	v, err := here.Save(ctx, "a", []byte("old"), "")
	if err != nil {
		t.Fatal(err)
	}

	giveUp, cancel := context.WithCancel(ctx)
	stop, goOn := freezer(t, secretsName)
	b.beforeSet = func() { stop(); cancel() }
	if _, err := here.Save(giveUp, "a", []byte("abandoned"), v); !errors.Is(err, context.Canceled) {
		t.Fatalf("error %v, want Canceled", err)
	}
	other.keyring.timeout = 200 * time.Millisecond
	_, err = other.Save(ctx, "a", []byte("newer"), v)
	wantProblem(t, err, NoAnswer)
	if !strings.Contains(err.Error(), "on the same item") {
		t.Errorf("it did not wait for the lock: %v", err)
	}

	goOn()
	awaitReturn(t, here.keyring.guard)
	b.beforeSet = func() {}
	other.keyring.timeout = patience
	if _, err = other.Save(ctx, "a", []byte("newer"), v); !errors.Is(err, tokencache.ErrConflict) {
		t.Errorf("Save at a version that is gone: %v", err)
	}
	if data, _, err := other.Load(ctx, "a"); err != nil || string(data) != "abandoned" {
		t.Errorf("loaded %q, %v", data, err)
	}
}
