//go:build linux

package oskeyring_test

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/godbus/dbus/v5"

	"github.com/stayauth/stayauth/testdata/realparts"
	"github.com/stayauth/stayauth/tokencache"
	"github.com/stayauth/stayauth/tokencache/oskeyring"
)

// useKeyring makes this process use a real keyring of its own.
func useKeyring(t *testing.T) *realparts.SecretService {
	t.Helper()
	k := realparts.Keyring(t)
	useBus(t, k.Env)
	return k
}

// useBus makes this process use another session bus.
func useBus(t *testing.T, env []string) {
	t.Helper()
	for _, v := range env {
		name, value, _ := strings.Cut(v, "=")
		t.Setenv(name, value)
	}
	// go-keyring has one connection for the whole process.
	forget := func() {
		if conn, err := dbus.SessionBus(); err == nil {
			conn.Close()
		}
	}
	forget()
	t.Cleanup(forget)
}

var key = tokencache.Key{Issuer: "https://issuer.example", ClientID: "client", Account: "ann"}

func quiet() *slog.Logger { return slog.New(slog.NewTextHandler(io.Discard, nil)) }

func mustOpen(t *testing.T, c oskeyring.Config) *tokencache.Cache {
	t.Helper()
	if c.App == "" {
		c.App = "test"
	}
	if c.Logger == nil {
		c.Logger = quiet()
	}
	cache, _, err := c.Open(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return cache
}

func wantProblem(t *testing.T, err error, want oskeyring.Problem) {
	t.Helper()
	e, ok := errors.AsType[*oskeyring.Error](err)
	if !ok || e.Problem != want {
		t.Fatalf("error %v, want an *Error with the problem %q", err, want)
	}
	if !errors.Is(err, tokencache.ErrUnavailable) {
		t.Errorf("error %v does not wrap ErrUnavailable", err)
	}
	if errors.Is(err, tokencache.ErrNotFound) {
		t.Errorf("error %v says that there is no login", err)
	}
}

// within fails the test if f takes as long as the limit of a call.
func within(t *testing.T, f func()) {
	t.Helper()
	start := time.Now()
	f()
	if d := time.Since(start); d > 10*time.Second {
		t.Errorf("took %v", d)
	}
}

func TestRealKeyring(t *testing.T) {
	useKeyring(t)
	within(t, func() {
		if err := oskeyring.Probe(t.Context()); err != nil {
			t.Fatal(err)
		}
	})
	dir := t.TempDir()
	r := &tokencache.Record{RefreshToken: "secret"}
	if _, err := mustOpen(t, oskeyring.Config{Dir: dir}).Save(t.Context(), key, r, ""); err != nil {
		t.Fatal(err)
	}
	got, _, err := mustOpen(t, oskeyring.Config{Dir: dir}).Load(t.Context(), key)
	if err != nil || got.RefreshToken != "secret" {
		t.Fatal(got, err)
	}
}

func TestRealKeyringLocked(t *testing.T) {
	k := useKeyring(t)
	dir := t.TempDir()
	open := mustOpen(t, oskeyring.Config{Dir: dir})
	if _, err := open.Save(t.Context(), key, &tokencache.Record{RefreshToken: "secret"}, ""); err != nil {
		t.Fatal(err)
	}
	k.Lock()
	// Who has the key goes on.
	if _, _, err := open.Load(t.Context(), key); err != nil {
		t.Error(err)
	}
	for _, dir := range []string{dir, t.TempDir()} {
		within(t, func() {
			_, _, err := oskeyring.Config{App: "test", Dir: dir, Logger: quiet()}.Open(t.Context())
			wantProblem(t, err, oskeyring.Locked)
		})
	}
	within(t, func() { wantProblem(t, oskeyring.Probe(t.Context()), oskeyring.Locked) })
}

func TestNoBus(t *testing.T) {
	useBus(t, []string{"DBUS_SESSION_BUS_ADDRESS=unix:path=" + t.TempDir() + "/none"})
	within(t, func() { wantProblem(t, oskeyring.Probe(t.Context()), oskeyring.NoBus) })
	if _, err := os.Stat("/run/user"); err != nil {
		t.Setenv("DBUS_SESSION_BUS_ADDRESS", "")
		within(t, func() { wantProblem(t, oskeyring.Probe(t.Context()), oskeyring.NoBus) })
	}
}

func TestDaemonKilled(t *testing.T) {
	k := useKeyring(t)
	dir := t.TempDir()
	open := mustOpen(t, oskeyring.Config{Dir: dir})
	if _, err := open.Save(t.Context(), key, &tokencache.Record{RefreshToken: "secret"}, ""); err != nil {
		t.Fatal(err)
	}
	k.Kill()
	within(t, func() { wantProblem(t, oskeyring.Probe(t.Context()), oskeyring.NoService) })
	if _, _, err := open.Load(context.Background(), key); err != nil {
		t.Error("a process that has the key needs no keyring:", err)
	}
	_, _, err := oskeyring.Config{App: "test", Dir: dir, Logger: quiet()}.Open(t.Context())
	wantProblem(t, err, oskeyring.NoService)
}
