//go:build unix

package main

import (
	"bytes"
	"math/rand/v2"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/stayauth/stayauth/testdata/realparts"
	"github.com/stayauth/stayauth/tokencache"
	"github.com/stayauth/stayauth/transport"
	"github.com/stayauth/stayauth/transport/endpoint"
	"github.com/stayauth/stayauth/transport/oauthtest"
)

// latency is how long the token endpoint takes. It spends the refresh token half-way.
const latency = 60 * time.Millisecond

// A terminal is where a user works with a provider that accepts a refresh token once
// and ends the login of whoever presents it again.
type terminal struct {
	t       *testing.T
	srv     *oauthtest.Server
	dir     string
	arrived chan struct{} // gets a value when a refresh reaches the provider
	lost    atomic.Bool   // the provider spends the refresh token and never answers
	moment  atomic.Value  // of type serving: how it answers otherwise
}

type serving = func(endpoint http.Handler, w http.ResponseWriter, r *http.Request)

func serve(endpoint http.Handler, w http.ResponseWriter, r *http.Request) { endpoint.ServeHTTP(w, r) }

func newTerminal(t *testing.T) *terminal { return newTerminalIn(t, t.TempDir()) }

// newTerminalIn returns one whose logins are kept in dir.
func newTerminalIn(t *testing.T, dir string) *terminal {
	tm := &terminal{t: t, dir: dir, arrived: make(chan struct{}, 1000)}
	tm.moment.Store(serving(serve))
	tm.srv = oauthtest.New(oauthtest.Config{Policy: oauthtest.StrictFamily, AuthStyle: oauthtest.AuthNone, Latency: latency})
	if err := tm.srv.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(tm.srv.Close)
	cache, err := openCache(tm.dir)
	if err != nil {
		t.Fatal(err)
	}
	source, err := transport.NewSource(transport.SourceConfig{Cache: cache, Refresher: &endpoint.Endpoint{
		Issuer: tm.srv.URL(), TokenURL: tm.srv.TokenURL(), ClientID: tm.srv.ClientID()}})
	if err != nil {
		t.Fatal(err)
	}
	tok := tm.srv.Login("user")
	if err := source.Login(t.Context(), &tokencache.Record{AccessToken: tokencache.Secret(tok.AccessToken),
		RefreshToken: tokencache.Secret(tok.RefreshToken), TokenType: "Bearer", Expiry: tok.Expiry}); err != nil {
		t.Fatal(err)
	}
	tm.srv.Fault("/token", 0, func(endpoint http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			tm.arrived <- struct{}{}
			if tm.lost.Load() {
				endpoint.ServeHTTP(discard{}, r)
				<-r.Context().Done()
				return
			}
			tm.moment.Load().(serving)(endpoint, w, r)
		})
	})
	return tm
}

// discard is an answer that is lost.
type discard struct{}

func (discard) Header() http.Header         { return http.Header{} }
func (discard) Write(b []byte) (int, error) { return len(b), nil }
func (discard) WriteHeader(int)             {}

// A screen is what a program has told the user so far.
type screen struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (s *screen) Write(b []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.text.Write(b)
}

func (s *screen) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.text.String()
}

// start starts the program with an access token that has expired, and returns when
// its refresh is on the way.
func (tm *terminal) start(args ...string) (cmd *exec.Cmd, stderr *screen) {
	tm.t.Helper()
	if err := expire(tm.dir); err != nil {
		tm.t.Fatal(err)
	}
	cmd = exec.Command("stayauth", args...)
	stderr = new(screen)
	cmd.Stderr = stderr
	cmd.Env = tm.environment()
	if err := cmd.Start(); err != nil {
		tm.t.Fatal(err)
	}
	tm.t.Cleanup(func() { cmd.Process.Kill() })
	select {
	case <-tm.arrived:
	case <-time.After(2 * time.Minute):
		cmd.Process.Kill()
		cmd.Wait()
		tm.t.Fatalf("the refresh did not arrive: %s", stderr)
	}
	return cmd, stderr
}

func (tm *terminal) environment() []string {
	return append(os.Environ(), "STAYAUTH_DIR="+tm.dir, "STAYAUTH_STORE=file", "STAYAUTH_ISSUER="+tm.srv.URL(),
		"STAYAUTH_CLIENT_ID="+tm.srv.ClientID(), "STAYAUTH_ORIGIN="+tm.srv.APIOrigin())
}

// run runs the program to its end.
func (tm *terminal) run(want int, args ...string) {
	tm.t.Helper()
	cmd := exec.Command("stayauth", args...)
	cmd.Env = tm.environment()
	out, _ := cmd.CombinedOutput()
	if got := cmd.ProcessState.ExitCode(); got != want {
		tm.t.Errorf("%q: exit status %d, want %d: %s", args, got, want, bytes.TrimSpace(out))
	}
}

// Whoever presses Ctrl-C in the middle of a rotation is still logged in.
func TestCtrlCInARotation(t *testing.T) {
	t.Parallel()
	const times = 50
	tm := newTerminal(t)
	for i := range times {
		args := []string{"token"}
		if i%2 == 1 {
			args = []string{"get", tm.srv.APIURL()}
		}
		cmd, stderr := tm.start(args...) // Refreshing proves that the last round lost nothing.
		time.Sleep(rand.N(latency))
		cmd.Process.Signal(os.Interrupt)
		cmd.Wait()
		// 0 if Ctrl-C came when the work was done.
		if code := cmd.ProcessState.ExitCode(); code != exitInterrupted && code != exitOK {
			t.Fatalf("Ctrl-C number %d: %v\n%s", i+1, cmd.ProcessState, stderr)
		}
		if c := tm.srv.Counts(); c.Rotations != i+1 || c.Reuses != 0 || c.InvalidGrants != 0 {
			t.Fatalf("Ctrl-C number %d: %+v", i+1, c)
		}
	}
	cmd, stderr := tm.start("token")
	if err := cmd.Wait(); err != nil {
		t.Fatalf("after %d times Ctrl-C: %v\n%s", times, err, stderr)
	}
	t.Logf("still logged in after %d of %d times", times, times)
}

// The test above can fail: without the grace of the recipe, the login is lost.
func TestKilledInARotation(t *testing.T) {
	t.Parallel()
	tm := newTerminal(t)
	tm.lost.Store(true)
	cmd, _ := tm.start("token")
	for tm.srv.Counts().Rotations == 0 {
		time.Sleep(time.Millisecond)
	}
	cmd.Process.Kill()
	cmd.Wait()
	tm.lost.Store(false)
	cmd, stderr := tm.start("token")
	cmd.Wait()
	if code := cmd.ProcessState.ExitCode(); code != exitLogin || !strings.Contains(stderr.String(), "interrupted") {
		t.Errorf("exit status %d, want %d and to be told why:\n%s", code, exitLogin, stderr)
	}
}

// Nobody has to wait for a provider that does not answer.
func TestSecondCtrlC(t *testing.T) {
	t.Parallel()
	tm := newTerminal(t)
	tm.lost.Store(true)
	cmd, stderr := tm.start("token")
	cmd.Process.Signal(os.Interrupt)
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	for !strings.Contains(stderr.String(), "Finishing the refresh") {
		select {
		case err := <-ended:
			t.Fatalf("the first Ctrl-C did not wait for the refresh: %v\n%s", err, stderr)
		case <-time.After(10 * time.Millisecond):
		}
	}
	cmd.Process.Signal(os.Interrupt)
	<-ended // in any case, when the time for the refresh is over
	if ws := cmd.ProcessState.Sys().(syscall.WaitStatus); !ws.Signaled() || ws.Signal() != syscall.SIGINT {
		t.Errorf("the second Ctrl-C did not end the program, but %v\n%s", cmd.ProcessState, stderr)
	}
}

// Nobody has to wait for a pipe into which nothing is written.
func TestCtrlCWithoutInput(t *testing.T) {
	tm := newTerminal(t)
	for name, args := range map[string]func(pipe string) []string{
		"import": func(pipe string) []string { return []string{"import", pipe} },
		"key":    func(pipe string) []string { return []string{"import", "-key", pipe, pipe} },
		"data":   func(pipe string) []string { return []string{"get", "-d", "@" + pipe, tm.srv.APIURL()} },
		"secret": func(pipe string) []string { return []string{"login", "-client-secret-file", pipe} },
	} {
		pipe := filepath.Join(t.TempDir(), "pipe")
		if err := syscall.Mkfifo(pipe, 0o600); err != nil {
			t.Fatal(err)
		}
		cmd := exec.Command("stayauth", args(pipe)...)
		cmd.Env = tm.environment()
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		stuck := time.AfterFunc(time.Minute, func() { cmd.Process.Kill() })
		// This is possible as soon as somebody reads.
		writer, err := os.OpenFile(pipe, os.O_WRONLY|syscall.O_NONBLOCK, 0)
		for begun := time.Now(); err != nil && time.Since(begun) < time.Minute; time.Sleep(time.Millisecond) {
			writer, err = os.OpenFile(pipe, os.O_WRONLY|syscall.O_NONBLOCK, 0)
		}
		if err != nil {
			t.Fatalf("%s: nobody reads: %v", name, err)
		}
		cmd.Process.Signal(os.Interrupt)
		cmd.Wait()
		stuck.Stop()
		writer.Close()
		if code := cmd.ProcessState.ExitCode(); code != exitInterrupted {
			t.Errorf("%s: %v", name, cmd.ProcessState)
		}
	}
}

func needsShell(t *testing.T) {
	t.Helper()
	for _, program := range []string{"sh", "grep", "head"} {
		_, err := exec.LookPath(program)
		realparts.Require(t, "a shell and its programs", err)
	}
}
