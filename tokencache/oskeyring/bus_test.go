//go:build linux

package oskeyring

import (
	"context"
	"errors"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/godbus/dbus/v5"
	gokeyring "github.com/zalando/go-keyring"

	"github.com/stayauth/stayauth/testdata/realparts"
)

func TestNoBus(t *testing.T) {
	// A library that starts a bus where there is none leaves it running.
	launched := filepath.Join(t.TempDir(), "launched")
	programs := t.TempDir()
	if err := os.WriteFile(filepath.Join(programs, "dbus-launch"), []byte("#!/bin/sh\n: >"+launched+"\nexit 1\n"), 0o700); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", programs+":"+os.Getenv("PATH"))
	wantLaunched := func(want bool) {
		if _, err := os.Stat(launched); (err == nil) != want {
			t.Errorf("dbus-launch was called: %t", err == nil)
		}
	}
	useBus(t, []string{"DBUS_SESSION_BUS_ADDRESS=unix:path=" + t.TempDir() + "/none"})
	noBus := func() {
		wantProblem(t, probeAgain(t), NoBus)
		_, _, err := realConfig(t.TempDir()).Open(t.Context())
		wantProblem(t, err, NoBus)
		_, err = realConfig(t.TempDir()).Items(t.Context())
		wantProblem(t, err, NoBus)
	}
	noBus()
	if _, err := os.Stat("/run/user"); err != nil {
		t.Setenv("DBUS_SESSION_BUS_ADDRESS", "")
		noBus()
		wantLaunched(false)
		if _, err := gokeyring.Get("s", "u"); err == nil {
			t.Error("a keyring without a bus")
		}
		wantLaunched(true) // so it would have been seen
	}
}

func TestMuteBus(t *testing.T) {
	socket := filepath.Join(t.TempDir(), "bus")
	l, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	t.Setenv("DBUS_SESSION_BUS_ADDRESS", "unix:path="+socket)
	k := realKeyring(100*time.Millisecond, 0, nil)
	for range 3 {
		_, err = k.get(t.Context(), "u", optional)
		wantProblem(t, err, NoAnswer)
		awaitReturn(t, k.guard) // at once, because the question can be cancelled
	}
	k.timeout = patience
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	if _, err := k.get(ctx, "u", optional); !errors.Is(err, context.DeadlineExceeded) {
		t.Error(err)
	}
}

// processOf returns the process that has this name on the bus.
func processOf(t *testing.T, name string) (pid int) {
	t.Helper()
	conn := busConn(t)
	var n uint32
	if err := conn.BusObject().Call("org.freedesktop.DBus.GetConnectionUnixProcessID", 0, name).Store(&n); err != nil {
		t.Fatal(err)
	}
	return int(n)
}

// busConn returns a connection of the test to its bus.
func busConn(t *testing.T, opts ...dbus.ConnOption) *dbus.Conn {
	t.Helper()
	conn, err := dbus.SessionBusPrivateNoAutoStartup(opts...)
	if err == nil {
		err = errors.Join(conn.Auth(nil), conn.Hello())
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return conn
}

// freezer stops a process on the bus, so that it answers nothing and does not close
// its connections, and makes it go on.
func freezer(t *testing.T, name string) (stop, goOn func()) {
	t.Helper()
	pid := processOf(t, name)
	signal := func(s syscall.Signal) func() {
		return func() {
			if err := syscall.Kill(pid, s); err != nil {
				t.Error(err)
			}
		}
	}
	stop, goOn = signal(syscall.SIGSTOP), signal(syscall.SIGCONT)
	t.Cleanup(goOn)
	return stop, goOn
}

const busName = "org.freedesktop.DBus"

// A read that gets no answer can be given up, wherever it is, and leaves nothing behind.
func TestReadIsGivenUp(t *testing.T) {
	for _, name := range []string{busName, secretsName} {
		useKeyring(t)
		dir := t.TempDir()
		mustOpen(t, realConfig(dir))
		stop, goOn := freezer(t, name)
		k := realKeyring(100*time.Millisecond, 0, nil)
		stop()
		for range 3 {
			_, err := k.get(t.Context(), "u", optional)
			wantProblem(t, err, NoAnswer)
			awaitReturn(t, k.guard)
		}
		goOn()
		k.timeout = patience
		if _, err := k.get(t.Context(), "u", optional); err != nil {
			t.Errorf("after %s goes on: %v", name, err)
		}
	}
}

// restartBus starts the bus of a keyring again, at the same address.
func restartBus(t *testing.T, k *realparts.SecretService) {
	t.Helper()
	var home string
	for _, v := range k.Env {
		if dir, ok := strings.CutPrefix(v, "HOME="); ok {
			home = dir
		}
	}
	cmd := k.Command("dbus-daemon", "--config-file="+filepath.Join(home, "bus.conf"), "--nofork", "--nopidfile")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { cmd.Process.Kill(); cmd.Wait() })
	awaitProbe(t, &Error{NoService, nil})
}

func TestBusKilledAndRestarted(t *testing.T) {
	k := useKeyring(t)
	dir := t.TempDir()
	cache, _ := mustOpen(t, realConfig(dir))
	save(t, cache)
	items := mustItems(t, realConfig(dir))
	v, err := items.Save(t.Context(), "a", []byte("one"), "")
	if err != nil {
		t.Fatal(err)
	}
	if err := syscall.Kill(processOf(t, busName), syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	awaitProbe(t, &Error{NoBus, nil})
	wantLoad(t, cache) // who has the key needs no keyring
	_, _, err = realConfig(dir).Open(t.Context())
	wantProblem(t, err, NoBus)
	_, err = items.Save(t.Context(), "a", []byte("two"), v)
	wantProblem(t, err, NoBus)

	restartBus(t, k)
	startDaemon(t, k, "--unlock")
	awaitProbe(t, nil)
	if _, err := items.Save(t.Context(), "a", []byte("two"), v); err != nil {
		t.Error(err)
	}
	cache, _ = mustOpen(t, realConfig(dir))
	wantLoad(t, cache)
}

// go-keyring keeps its connection for the life of the process, but a program that
// only reads its key does without.
func TestReadLeavesNoConnection(t *testing.T) {
	useKeyring(t)
	dir := t.TempDir()
	cache, _ := mustOpen(t, realConfig(dir))
	save(t, cache)
	forgetBus()
	conn := busConn(t)
	connections := func() int {
		var names []string
		if err := conn.BusObject().Call(busName+".ListNames", 0).Store(&names); err != nil {
			t.Fatal(err)
		}
		return len(slices.DeleteFunc(names, func(name string) bool { return name[0] != ':' }))
	}
	const others = 2 // the service and conn
	for deadline := time.Now().Add(patience); connections() > others && time.Now().Before(deadline); {
		time.Sleep(time.Millisecond)
	}
	for range 3 {
		cache, _ := mustOpen(t, realConfig(dir))
		wantLoad(t, cache)
	}
	for deadline := time.Now().Add(patience); connections() > others; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%d connections", connections())
		}
	}
}
