package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/stayauth/stayauth/testdata/realparts"
	"github.com/stayauth/stayauth/transport/oauthtest"
)

// childTestVar holds a childTest when the test binary is to be the program.
const childTestVar = "STAYAUTH_QUICKSTART_TEST"

type childTest struct {
	Dir  string // where the logins are
	Args []string
}

// runChildTest is run with a private directory, a faster pace, and a browser that
// agrees to everything. The end of the input is Ctrl-C.
func runChildTest(conf string) int {
	ctx, ctrlC := context.WithCancel(context.Background())
	go func() {
		io.Copy(io.Discard, os.Stdin)
		ctrlC()
	}()
	var c childTest
	if err := json.Unmarshal([]byte(conf), &c); err != nil {
		return exitStatus(ctx, os.Stderr, err)
	}
	o, err := parse(c.Args, os.Getenv, os.Stderr)
	if err == nil {
		o.storage.Dir, o.pace, o.every = c.Dir, 0.2, time.Millisecond
		open := func(ctx context.Context, url string) error {
			go browse(ctx, url)
			return nil
		}
		err = o.run(ctx, plainTimeline(os.Stdout), open)
	}
	return exitStatus(ctx, os.Stderr, err)
}

// A keyringTest runs the program in a session with a keyring. The child processes
// are the only ones that see it.
type keyringTest struct {
	*testing.T
	keyring *realparts.SecretService
	srv     *oauthtest.Server
}

// run runs the program, presses Ctrl-C after some calls of srv, and returns what it
// wrote as one line.
func (t keyringTest) run(dir string, wantStatus int, args ...string) string {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	conf, err := json.Marshal(childTest{dir, args})
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	cmd := t.keyring.Command(exe)
	cmd.Env = append(cmd.Env, childTestVar+"="+string(conf))
	cmd.Stdout, cmd.Stderr = &out, &out
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	enough := t.srv.Counts().APICalls + 15
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error)
	go func() { ended <- cmd.Wait() }()
	for running := true; running; {
		select {
		case err = <-ended:
			running = false
		case <-time.After(time.Millisecond):
			if t.srv.Counts().APICalls >= enough {
				stdin.Close()
			}
		}
	}
	t.Logf("%q:\n%s", args, &out)
	if _, exited := errors.AsType[*exec.ExitError](err); err != nil && !exited {
		t.Fatal(err)
	}
	if got := cmd.ProcessState.ExitCode(); got != wantStatus {
		t.Errorf("%q: exit status %d, want %d", args, got, wantStatus)
	}
	return strings.Join(strings.Fields(out.String()), " ")
}

func (t keyringTest) wantMatch(out string, patterns ...string) {
	t.Helper()
	for _, p := range patterns {
		if !regexp.MustCompile(p).MatchString(out) {
			t.Errorf("the output does not match %q", p)
		}
	}
}

// A keyring that works is used. One that is locked is not, and the program says so;
// but a login whose key is in there stays where it is, and is not spent.
func TestKeyring(tt *testing.T) {
	t := keyringTest{tt, realparts.Keyring(tt), oauthtest.New(oauthtest.Config{
		Policy: oauthtest.StrictFamily, AuthStyle: oauthtest.AuthNone,
	})}
	if err := t.srv.Start(); err != nil {
		t.Fatal(err)
	}
	defer t.srv.Close()
	forReal := []string{"-issuer", t.srv.URL(), "-client-id", t.srv.ClientID(), "-url", t.srv.APIURL()}
	dir := t.TempDir()
	demoDir, first, second := filepath.Join(dir, "demo", "logins"), filepath.Join(dir, "first", "logins"), filepath.Join(dir, "second", "logins")

	out := t.run(demoDir, 0, "-store", "keyring")
	t.wantMatch(out, "key: OS keyring", "sealed with AES-256-GCM; the key is in the OS keyring", "reuses 0")
	wantNoLogin(tt, storage{Key: "file", Dir: demoDir})
	t.wantMatch(t.run(first, 0, forReal...), "key: OS keyring[.] To log in with .* Logged in[.]")
	t.wantMatch(t.run(first, 0, forReal...), "Logged in since")

	t.keyring.Lock()
	const remedy = `OS keyring: locked: the keyring "Login": unlock the keyring`
	before := t.srv.Counts()
	t.wantMatch(t.run(first, 1, append(forReal, "-store", "keyring")...), remedy)
	t.wantMatch(t.run(first, 1, forReal...), remedy)
	t.wantMatch(t.run(second, 1, append(forReal, "-store", "keyring")...), remedy)
	if after := t.srv.Counts(); after.TokenRequests != before.TokenRequests {
		t.Errorf("without a key, the provider counted %+v, before %+v", after, before)
	}

	t.wantMatch(t.run(second, 0, forReal...), "key: key file; not used: "+remedy, "Logged in[.]")
}
