//go:build unix

// On Windows no process can send Ctrl-C to a single other one.

package cliauth_test

import (
	"bytes"
	"os"
	"os/exec"
	"os/signal"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stayauth/stayauth/testdata/realparts"
	"github.com/stayauth/stayauth/tokencache"
	"github.com/stayauth/stayauth/transport"
	"github.com/stayauth/stayauth/transport/oauthtest"
	"github.com/stayauth/stayauth/transport/provider"
)

// Ctrl-C between the moment when a refresh token is spent and that when the answer arrives ends the
// program as it would at any other time, but not the login, although the program does nothing about
// it. A program that handles signals itself is told.
func TestInterruptedRefreshIsStored(t *testing.T) {
	t.Parallel()
	heeded := make(chan os.Signal, 1)
	signal.Notify(heeded, syscall.SIGHUP) // else the programs ignore it under nohup, as this one does
	t.Cleanup(func() { signal.Stop(heeded) })
	for _, c := range []struct {
		name   string
		signal os.Signal
		env    string
	}{
		{"Ctrl-C", os.Interrupt, ""},
		{"SIGTERM", syscall.SIGTERM, ""},
		{"the window is closed", syscall.SIGHUP, ""},
		{"a program that handles it", os.Interrupt, handles + "=1"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			srv := oauthtest.New(oauthtest.Config{Policy: oauthtest.StrictFamily, AuthStyle: oauthtest.AuthNone})
			if err := srv.Start(); err != nil {
				t.Fatal(err)
			}
			defer srv.Close()
			dir := t.TempDir()
			store(t, dir, srv, "")
			srv.Fault("/token", 1, oauthtest.AfterCommit(oauthtest.Slow(time.Second)))

			cmd := program(dir, srv, works+"=1", c.env)
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			refreshing(t, cmd, srv, 1)
			if err := cmd.Process.Signal(c.signal); err != nil {
				t.Fatal(err)
			}
			cmd.Wait()
			want := "signal: " + c.signal.String()
			if c.env != "" {
				want = "exit status 3"
			}
			if got := cmd.ProcessState.String(); got != want {
				t.Errorf("the program has ended by %q", got)
			}
			if out, err := program(dir, srv).CombinedOutput(); err != nil {
				t.Errorf("the next run: %v\n%s", err, out)
			}
			if c := srv.Counts(); c.Reuses != 0 || c.Rotations != 1 {
				t.Errorf("the provider counted %+v", c)
			}
		})
	}
}

// loggedIn starts a provider, and logs in there, in a directory.
func loggedIn(t *testing.T, cfg oauthtest.Config) (srv *oauthtest.Server, dir string) {
	t.Helper()
	srv, dir = oauthtest.New(cfg), t.TempDir()
	if err := srv.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(srv.Close)
	store(t, dir, srv, "")
	return srv, dir
}

// A second Ctrl-C does not wait: the provider may be frozen.
func TestSecondInterruptDoesNotWait(t *testing.T) {
	t.Parallel()
	srv, dir := loggedIn(t, oauthtest.Config{AuthStyle: oauthtest.AuthNone})
	srv.Fault("/token", 0, oauthtest.Hang)
	cmd := program(dir, srv)
	var said bytes.Buffer
	cmd.Stderr = &said
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	defer cmd.Process.Kill()
	for srv.Counts().TokenRequests == 0 {
		time.Sleep(time.Millisecond)
	}
	began := time.Now()
	for interrupts := 0; ; interrupts++ {
		select {
		case <-ended:
			if interrupts < 2 {
				t.Error("the first Ctrl-C has ended it")
			}
			if took := time.Since(began); took > 15*time.Second {
				t.Errorf("it has ended after %v", took)
			}
			if got := cmd.ProcessState.String(); got != "signal: interrupt" {
				t.Errorf("it has ended by %q", got)
			}
			if !strings.Contains(said.String(), "could cost you the login") {
				t.Errorf("the user was told %q", said.String())
			}
			return
		case <-time.After(time.Second): // Two that come together may be one.
			cmd.Process.Signal(os.Interrupt)
		}
	}
}

// A program with two Clients ends by Ctrl-C when both have stored what they renew: the first one
// that has does not end the login of the other.
func TestInterruptedRefreshOfTwoClients(t *testing.T) {
	t.Parallel()
	srv, dir := loggedIn(t, oauthtest.Config{Policy: oauthtest.StrictFamily, AuthStyle: oauthtest.AuthNone})
	store(t, dir, srv, "second")
	srv.Fault("/token", 1, oauthtest.AfterCommit(oauthtest.Slow(time.Second)))
	srv.Fault("/token", 1, oauthtest.AfterCommit(oauthtest.Slow(3*time.Second)))
	cmd := program(dir, srv, works+"=1", second+"=1")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	refreshing(t, cmd, srv, 2)
	if err := cmd.Process.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}
	cmd.Wait()
	if got := cmd.ProcessState.String(); got != "signal: interrupt" {
		t.Errorf("the program has ended by %q", got)
	}
	if out, err := program(dir, srv, second+"=1").CombinedOutput(); err != nil {
		t.Errorf("the next run: %v\n%s", err, out)
	}
	if c := srv.Counts(); c.Reuses != 0 || c.Rotations != 2 {
		t.Errorf("the provider counted %+v", c)
	}
}

// What a program does not listen to by the will of whoever started it, as with nohup, does not end
// it after a refresh either.
func TestIgnoredSignalStaysIgnored(t *testing.T) {
	nohup, err := exec.LookPath("nohup")
	realparts.Require(t, "nohup", err)
	t.Parallel()
	srv, dir := loggedIn(t, oauthtest.Config{Policy: oauthtest.StrictFamily, AuthStyle: oauthtest.AuthNone})
	srv.Fault("/token", 1, oauthtest.AfterCommit(oauthtest.Slow(time.Second)))
	cmd := program(dir, srv)
	cmd.Path, cmd.Args = nohup, []string{"nohup", os.Args[0]}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	refreshing(t, cmd, srv, 1)
	if err := cmd.Process.Signal(syscall.SIGHUP); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Wait(); err != nil {
		t.Errorf("the program has ended by %v", err)
	}
}

// program is a run of the child.
func program(dir string, srv *oauthtest.Server, env ...string) *exec.Cmd {
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(append(os.Environ(), childVariable+"="+dir, issuerOf+"="+srv.URL()), env...)
	return cmd
}

// refreshing waits until the provider has answered n refreshes of a program.
func refreshing(t *testing.T, cmd *exec.Cmd, srv *oauthtest.Server, n int) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); srv.Counts().Rotations < n; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			cmd.Process.Kill()
			t.Fatal("the program does not refresh")
		}
	}
}

// store stores the login of an account, whose token has expired.
func store(t *testing.T, dir string, srv *oauthtest.Server, account string) {
	t.Helper()
	cache, err := childCache(dir)
	if err != nil {
		t.Fatal(err)
	}
	rec := srv.Login("ann" + account).Record()
	rec.Expiry = time.Now().Add(-time.Minute)
	p, err := provider.Discover(t.Context(), srv.URL())
	if err != nil {
		t.Fatal(err)
	}
	source, err := transport.NewSource(transport.SourceConfig{Cache: cache, Refresher: p.Endpoint("client", "", "api"),
		Key: tokencache.Key{Account: account}})
	if err != nil {
		t.Fatal(err)
	}
	if err := source.Login(t.Context(), rec); err != nil {
		t.Fatal(err)
	}
	if err := source.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
}
