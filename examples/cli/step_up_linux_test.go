package main

import (
	"bytes"
	"errors"
	"io"
	"net/http"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/stayauth/stayauth/transport/oauthtest"
)

// get runs stayauth get, in a window or not, as person does.
func (tm *terminal) get(window bool, flags ...string) (said, printed string, status int) {
	tm.t.Helper()
	return tm.person(window, append(append([]string{"get"}, flags...), tm.srv.APIURL())...)
}

// person runs the program in a window or not, with a browser, and returns what was said, what was
// printed and the exit status.
func (tm *terminal) person(window bool, args ...string) (said, printed string, status int) {
	tm.t.Helper()
	cmd := exec.Command("stayauth", args...)
	cmd.Env = append(tm.environment(), "TMPDIR="+tm.t.TempDir(), "DISPLAY=:0", "SSH_CONNECTION=", "SSH_CLIENT=", "SSH_TTY=", "NO_COLOR=1", "TERM=dumb")
	out, told := new(bytes.Buffer), new(screen)
	cmd.Stdout, cmd.Stderr = out, told
	shown := make(chan struct{})
	var p *pty
	if window {
		p = openPTY(tm.t)
		cmd.Stdin, cmd.Stderr = p.tty, p.tty
		go func() {
			defer close(shown)
			io.Copy(told, p)
		}()
	}
	if err := cmd.Start(); err != nil {
		tm.t.Fatal(err)
	}
	stuck := time.AfterFunc(2*time.Minute, func() { cmd.Process.Kill() })
	defer stuck.Stop()
	if _, failed := errors.AsType[*exec.ExitError](cmd.Wait()); !failed && !cmd.ProcessState.Success() {
		tm.t.Fatal("it did not run")
	}
	if window {
		p.tty.Close() // The window then shows what is left, and ends.
		<-shown
	}
	return told.String(), out.String(), cmd.ProcessState.ExitCode()
}

// C100: get answers a step-up by a login, if a person is there, and by an error if not.
func TestC100GetAnswersAStepUp(t *testing.T) {
	tm := newTerminal(t)
	tm.srv.DemandAuthentication("gold", 0)
	before := tm.srv.Current("user").AccessToken
	said, _, status := tm.get(false)
	if status != exitFailure || !strings.Contains(said, `acr_values="gold"`) || tm.srv.Current("user").AccessToken != before {
		t.Errorf("without a terminal: exit status %d: %s", status, said)
	}
	said, printed, status := tm.get(true)
	if status != exitOK || !strings.Contains(printed, `"account":"user"`) || !strings.Contains(said, `acr_values="gold"`) || !strings.Contains(said, "Logged in.") {
		t.Errorf("exit status %d: %s\n%s", status, said, printed)
	}
	said, _, status = tm.get(false)
	if status != exitOK || said != "" {
		t.Errorf("after the login: exit status %d: %s", status, said)
	}
	tm.srv.DemandAuthentication("platinum", 0)
	said, printed, status = tm.get(true, "-d", "hello")
	if status != exitOK || !strings.Contains(printed, `"length":5`) {
		t.Errorf("with a body: exit status %d: %s\n%s", status, said, printed)
	}
}

// C104: if the API is not content with the login that it has demanded, there is no other.
func TestC104GetAsksOnce(t *testing.T) {
	tm := newTerminal(t)
	tm.srv.Fault("/api", 0, oauthtest.Challenge(401, `Bearer error="insufficient_user_authentication", acr_values="platinum"`))
	for i := range 2 {
		said, _, status := tm.get(true)
		if status != exitFailure || strings.Contains(said, "Logged in.") != (i == 0) || !strings.Contains(said, "platinum") {
			t.Errorf("call %d: exit status %d: %s", i, status, said)
		}
		if i == 1 && (!strings.Contains(said, "repeated") || strings.Contains(said, "browser")) {
			t.Errorf("call %d: %s", i, said)
		}
	}
}

// While the provider is down, nobody is asked to log in for claims that a refresh may bring.
func TestAnOutageIsNoReasonToLogIn(t *testing.T) {
	t.Parallel()
	tm := newTerminal(t)
	tm.srv.DemandClaims(`{"access_token":{"nbf":{"essential":true}}}`)
	down := oauthtest.Status(503, 0)(nil)
	tm.moment.Store(serving(func(_ http.Handler, w http.ResponseWriter, r *http.Request) { down.ServeHTTP(w, r) }))
	if said, _, status := tm.get(true); status != exitFailure || strings.Contains(said, "browser") {
		t.Errorf("exit status %d: %s", status, said)
	}
	tm.moment.Store(serving(serve))
}

// C103: the claims that an API demands, and that the provider refuses to put into a refreshed
// token, are asked for at a login: by a later call, which has no challenge to read, and by login
// itself.
func TestC103ClaimsAreAskedForAtALogin(t *testing.T) {
	for name, ask := range map[string]func(*terminal) (string, string, int){
		"get":   func(tm *terminal) (string, string, int) { return tm.get(true) },
		"login": func(tm *terminal) (string, string, int) { return tm.person(false, "login") },
	} {
		t.Run(name, func(t *testing.T) { claimsAreAskedFor(t, ask) })
	}
}

func claimsAreAskedFor(t *testing.T, ask func(*terminal) (said, printed string, status int)) {
	const demanded = `{"access_token":{"acrs":{"essential":true,"value":"c1"}}}`
	tm := newTerminal(t)
	tm.srv.DemandClaims(demanded)
	refuse := oauthtest.Answer(400, "application/json", `{"error":"interaction_required"}`)(nil)
	tm.moment.Store(serving(func(_ http.Handler, w http.ResponseWriter, r *http.Request) { refuse.ServeHTTP(w, r) }))
	if said, _, status := tm.get(false); status != exitFailure {
		t.Fatalf("exit status %d: %s", status, said)
	}
	if said, _, status := tm.get(false); status != exitLogin {
		t.Errorf("later: exit status %d: %s", status, said)
	}
	tm.moment.Store(serving(serve))
	if said, _, status := ask(tm); status != exitOK {
		t.Errorf("the login: exit status %d: %s", status, said)
	}
	before := tm.srv.Counts().TokenRequests
	said, printed, status := tm.get(false)
	if status != exitOK || !strings.Contains(printed, `"account":"user"`) || said != "" {
		t.Errorf("afterwards: exit status %d: %s\n%s", status, said, printed)
	}
	if n := tm.srv.Counts().TokenRequests; n != before {
		t.Error("the token of the login is not what the API demands: it was refreshed")
	}
}
