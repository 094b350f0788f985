// Package storecheck is what the tests of the stores on a server have in common: what
// storetest does not ask of a store, because it takes a server, another process, or a
// Cache to find out.
package storecheck

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/stayauth/stayauth/testdata/realparts"
	"github.com/stayauth/stayauth/tokencache"
	"github.com/stayauth/stayauth/tokencache/storetest"
)

// A Store is what all of them are.
type Store interface {
	tokencache.Store
	tokencache.Lister
	tokencache.Preflighter
	tokencache.Recoverer
}

// Main runs the tests of a package, or does the work of a process that they have started.
// open opens the store that arg names, see storetest.RunShared.
func Main(m *testing.M, open func(arg string) (tokencache.Store, error)) {
	if arg, ok := os.LookupEnv(holderEnv); ok {
		fmt.Println(hold(arg, open))
		return
	}
	storetest.Child(open)
	os.Exit(m.Run())
}

// Patience is how long something may take before a test gives up.
const Patience = time.Minute

// Lock waits for the lock, also while the server is coming back.
func Lock(t *testing.T, s tokencache.Store, name string) (unlock func() error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), Patience)
	defer cancel()
	for {
		unlock, err := s.Lock(ctx, name)
		if err == nil {
			return unlock
		}
		if ctx.Err() != nil {
			t.Fatal(err)
		}
		time.Sleep(10 * time.Millisecond)
	}
}

// Save saves.
func Save(t *testing.T, s tokencache.Store, name, data string, old tokencache.Version) tokencache.Version {
	t.Helper()
	v, err := s.Save(t.Context(), name, []byte(data), old)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// Everything returns what each method says about the entry "a".
func Everything(ctx context.Context, s Store) map[string]error {
	errs := map[string]error{"Preflight": s.Preflight(ctx, "a", 1), "Delete": s.Delete(ctx, "a", "1")}
	_, _, errs["Load"] = s.Load(ctx, "a")
	_, errs["Save"] = s.Save(ctx, "a", []byte("x"), "")
	unlock, err := s.Lock(ctx, "a")
	for _, err := range s.Interrupted(ctx) {
		errs["Interrupted"] = err
	}
	if err == nil {
		err = unlock()
	}
	errs["Lock"] = err
	for _, err := range s.List(ctx, "") {
		errs["List"] = err
	}
	return errs
}

// Unavailable checks that every method fails with ErrUnavailable, says what it should,
// and tells nobody the password.
func Unavailable(t *testing.T, s Store, says, password string) {
	t.Helper()
	for op, err := range Everything(t.Context(), s) {
		if !errors.Is(err, tokencache.ErrUnavailable) || !strings.Contains(err.Error(), says) {
			t.Errorf("%s: %v\nwant ErrUnavailable that says %q", op, err, says)
		}
		Silent(t, err, password)
	}
}

// Silent checks that err does not tell the password, however it is printed.
func Silent(t *testing.T, err error, password string) {
	t.Helper()
	text := fmt.Sprintf("%v %+v %#v", err, err, err)
	for e := err; e != nil; e = errors.Unwrap(e) {
		encoded, _ := json.Marshal(e)
		text += fmt.Sprintf(" %#v %s", e, encoded)
	}
	if strings.Contains(text, password) {
		t.Errorf("the password is in %s", text)
	}
}

// SmallDisk mounts a file system of few megabytes at dir, with the options of mount.
func SmallDisk(t *testing.T, dir, options string) {
	t.Helper()
	out, err := exec.Command("mount", "-t", "tmpfs", "-o", options, "tmpfs", dir).CombinedOutput()
	if err != nil {
		err = fmt.Errorf("%w: %s", err, out)
	}
	realparts.Require(t, "the right to mount a small file system", err)
	t.Cleanup(func() { exec.Command("umount", "-l", dir).Run() })
}

// Begin begins a refresh in one step. It returns a function that ends it in one step, after it has
// found the journal, which may take a moment while the server is coming back. If the journal may be
// lost, end saves without it.
func Begin(t *testing.T, s tokencache.Store, name string) (end func(mayBeLost bool)) {
	t.Helper()
	v := Save(t, s, name, "old token", "")
	begun, endBy, unlock, err := s.(interface {
		Begin(context.Context, string, []byte, tokencache.Version, string) (
			tokencache.Version, func(context.Context, []byte, tokencache.Version) (tokencache.Version, error), func() error, error)
	}).Begin(t.Context(), name, []byte("journal"), v, "")
	if err != nil {
		t.Fatal(err)
	}
	return func(mayBeLost bool) {
		t.Helper()
		ctx, cancel := context.WithTimeout(t.Context(), Patience)
		defer cancel()
		data, now, err := s.Load(ctx, name)
		for ; err != nil && ctx.Err() == nil; data, now, err = s.Load(ctx, name) {
			time.Sleep(10 * time.Millisecond)
		}
		lost := mayBeLost && string(data) == "old token" && now == v
		if err != nil || !lost && (string(data) != "journal" || now != begun) {
			t.Fatalf("the journal is %q at %q, want %q: %v", data, now, begun, err)
		}
		_, err = endBy(ctx, []byte("new token"), begun)
		if lost && errors.Is(err, tokencache.ErrConflict) {
			_, err = s.Save(ctx, name, []byte("new token"), v)
		}
		if err != nil {
			t.Fatal(err)
		}
		if err := unlock(); err != nil {
			t.Fatal(err)
		}
	}
}
