//go:build linux

package oskeyring

import (
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/godbus/dbus/v5"

	"github.com/stayauth/stayauth/testdata/realparts"
	"github.com/stayauth/stayauth/tokencache"
)

// useKeyring makes this process use a real keyring of its own.
func useKeyring(t testing.TB) *realparts.SecretService {
	t.Helper()
	k := realparts.Keyring(t)
	useBus(t, k.Env)
	return k
}

// useBus makes this process use another session bus.
func useBus(t testing.TB, env []string) {
	t.Helper()
	for _, v := range env {
		name, value, _ := strings.Cut(v, "=")
		t.Setenv(name, value)
	}
	forgetBus()
	t.Cleanup(forgetBus)
}

// forgetBus closes the connections of this process and of go-keyring.
func forgetBus() {
	shared.Lock()
	defer shared.Unlock()
	if shared.conn != nil {
		shared.conn.Close()
		shared.conn = nil
	}
	if conn, err := dbus.SessionBus(); err == nil {
		conn.Close()
	}
}

// realConfig returns a Config of a process that uses the real keyring.
func realConfig(dir string) Config {
	return Config{App: "test", Dir: dir, Timeout: patience, Logger: slog.New(slog.DiscardHandler)}
}

// probeAgain is Probe for tests that are not about its limit, which a machine under
// load may exceed.
func probeAgain(t *testing.T) error {
	t.Helper()
	for deadline := time.Now().Add(patience); ; {
		if err := Probe(t.Context()); !isProblem(err, NoAnswer) || time.Now().After(deadline) {
			return err
		}
	}
}

func TestRealKeyring(t *testing.T) {
	useKeyring(t)
	if err := probeAgain(t); err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	sealed, _ := mustOpen(t, realConfig(dir))
	items, err := tokencache.New(mustItems(t, realConfig(dir)), nil)
	if err != nil {
		t.Fatal(err)
	}
	for name, cache := range map[string]*tokencache.Cache{"Open": sealed, "Items": items} {
		var v tokencache.Version
		for _, kib := range []int{1, 3, 10, 100} {
			r := testRecord(kib << 10)
			err := cache.Preflight(t.Context(), testKey, r)
			if err == nil {
				v, err = cache.Save(t.Context(), testKey, r, v)
			}
			if err != nil {
				t.Fatalf("%s, %d KiB: %v", name, kib, err)
			}
			if got, _, err := cache.Load(t.Context(), testKey); err != nil || got.RefreshToken != r.RefreshToken {
				t.Fatalf("%s, %d KiB: %v", name, kib, err)
			}
		}
	}
	again, info := mustOpen(t, realConfig(dir))
	wantLoad(t, again)
	if info.Key != "OS keyring" {
		t.Errorf("%+v", info)
	}
}

func TestRealKeyringLocked(t *testing.T) {
	k := useKeyring(t)
	dir := t.TempDir()
	open, _ := mustOpen(t, realConfig(dir))
	if _, err := open.Save(t.Context(), testKey, &tokencache.Record{RefreshToken: "secret"}, ""); err != nil {
		t.Fatal(err)
	}
	k.Lock()
	// Who has the key goes on.
	if _, _, err := open.Load(t.Context(), testKey); err != nil {
		t.Error(err)
	}
	for _, dir := range []string{dir, t.TempDir()} {
		_, _, err := realConfig(dir).Open(t.Context())
		wantProblem(t, err, Locked)
		_, err = realConfig(dir).Items(t.Context())
		wantProblem(t, err, Locked)
	}
	wantProblem(t, probeAgain(t), Locked)
}
