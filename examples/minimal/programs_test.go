package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/cookiejar"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stayauth/stayauth/testdata/readme"
	"github.com/stayauth/stayauth/testdata/realparts"
	"github.com/stayauth/stayauth/transport/oauthtest"
)

// The first program of README: one login in the browser, and then none. Where there is no keyring,
// it says what the user has to do.
func TestReadersCommandLine(t *testing.T) {
	t.Parallel()
	app := fmt.Sprintf("readme-%d", os.Getpid())
	c := newCommandLine(t, app)
	variable := strings.ReplaceAll(strings.ToUpper(app), "-", "_") + "_PASSPHRASE"
	if out, err := c.Command(c.settings...).CombinedOutput(); err == nil || !strings.Contains(string(out), variable) {
		t.Errorf("without a keyring: %v\n%s", err, out)
	}
	c.logsInOnce(variable + "=correct horse")
	// A command of the same program that tells who is logged in, as package cliauth has it.
	out, err := readme.Try(t, fmt.Sprintf(whoIsLoggedIn, app)).Command(variable + "=correct horse").CombinedOutput()
	if err != nil || string(out) != "1 login\n" {
		t.Errorf("who is logged in: %v\n%s", err, out)
	}
}

const whoIsLoggedIn = `package main

import (
	"context"
	"fmt"
	"log"

	"github.com/stayauth/stayauth/tokencache"
	"github.com/stayauth/stayauth/transport/cliauth"
	"github.com/stayauth/stayauth/transport/login"
)

func main() {
	ctx := context.Background()
	cache, err := cliauth.OpenCache(ctx, %q)
	if err != nil {
		log.Fatal(err)
	}
	accounts, err := login.Accounts(ctx, cache, tokencache.Key{})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(len(accounts), "login")
}
`

// The same with the keyring of a desktop.
func TestReadersCommandLineWithKeyring(t *testing.T) {
	t.Parallel()
	keyring := realparts.Keyring(t)
	newCommandLine(t, fmt.Sprintf("readme-keyring-%d", os.Getpid())).logsInOnce(append(keyring.Env, "DISPLAY=:0")...)
}

// A commandLine is the first program, for a user with a browser.
type commandLine struct {
	*readme.Trial
	t        *testing.T
	srv      *oauthtest.Server
	settings []string
}

// newCommandLine gives the program another name, because its logins are where those of whoever runs
// the test are.
func newCommandLine(t *testing.T, app string) *commandLine {
	t.Helper()
	srv, url := readme.Provider(t, oauthtest.Config{Policy: oauthtest.Strict, AuthStyle: oauthtest.AuthNone, Scope: "read_api"})
	settings := append(readme.Browser(t), "GITLAB_URL="+url, "CLIENT_ID="+srv.ClientID())
	readme.Logins(t, app)
	program := strings.Replace(readme.Program(t, "cliauth.Open"), `"my-app"`, fmt.Sprintf("%q", app), 1)
	return &commandLine{Trial: readme.Try(t, program), t: t, srv: srv, settings: settings}
}

func (c *commandLine) logsInOnce(settings ...string) {
	c.t.Helper()
	for range 2 {
		out, err := c.Command(append(c.settings, settings...)...).CombinedOutput()
		if err != nil || !strings.Contains(string(out), "200 OK") || !strings.Contains(string(out), `"path":"/api/v4/user"`) {
			c.t.Fatalf("error %v\n%s", err, out)
		}
		if strings.Contains(string(out), "INFO") {
			c.t.Errorf("the user did not ask for a log:\n%s", out)
		}
		c.Works(c.t)
	}
	if n := c.srv.Counts().TokenRequests; n != 1 {
		c.t.Errorf("the user has logged in %d times", n)
	}
}

// The second one: a user who opens the page is sent to the provider, comes back to the page, and is
// still connected when the server has been restarted.
func TestReadersWebApplication(t *testing.T) {
	t.Parallel()
	srv, url := readme.Provider(t, oauthtest.Config{Policy: oauthtest.Strict, AuthStyle: oauthtest.AuthPost, Scope: "read_api"})
	tr := readme.Try(t, readme.Program(t, "login.NewWeb"))
	addr := freeAddress(t)
	jar, err := cookiejar.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	browser := &http.Client{Jar: jar}
	for range 2 {
		server := start(t, tr.Command("ADDR="+addr, "GITLAB_URL="+url, "CLIENT_ID="+srv.ClientID(), "CLIENT_SECRET="+srv.ClientSecret(),
			"COOKIE_KEY=0123456789abcdef0123456789abcdef0123456789ab"))
		server.waitFor("to listen", func() bool {
			conn, err := net.Dial("tcp", addr)
			if err == nil {
				conn.Close()
			}
			return err == nil
		})
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+addr+"/projects", nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Header = http.Header{"Sec-Fetch-Site": {"none"}, "Sec-Fetch-Mode": {"navigate"}, "Sec-Fetch-Dest": {"document"}}
		resp, err := browser.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(resp.Body)
		resp.Body.Close()
		var echo oauthtest.Echo
		if json.Unmarshal(body, &echo); err != nil || resp.StatusCode != http.StatusOK || echo.Path != "/api/v4/projects" {
			t.Fatalf("%s, error %v\n%s", resp.Status, err, body)
		}
		tr.Works(t)
		server.end()
	}
	if c := srv.Counts(); c.TokenRequests != 1 {
		t.Errorf("%d token requests", c.TokenRequests)
	}
}

// The third one: a service that acts for itself.
func TestReadersService(t *testing.T) {
	t.Parallel()
	srv, url := readme.Provider(t, oauthtest.Config{})
	tr := readme.Try(t, readme.Program(t, "ClientCredentials"))
	service := start(t, tr.Command("ISSUER="+url, "API="+url, "CLIENT_ID="+srv.ClientID(), "CLIENT_SECRET="+srv.ClientSecret()))
	service.waitFor("to be served by the API", func() bool { return strings.Contains(service.said(), "200 OK") })
	tr.Works(t)
}

// A process is a server that the reader has started.
type process struct {
	t    *testing.T
	cmd  *exec.Cmd
	done chan error

	mu  sync.Mutex
	out bytes.Buffer
}

func start(t *testing.T, cmd *exec.Cmd) *process {
	t.Helper()
	p := &process{t: t, cmd: cmd, done: make(chan error, 1)}
	cmd.Stdout, cmd.Stderr = p, p
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() { p.done <- cmd.Wait() }()
	t.Cleanup(func() { cmd.Process.Kill() })
	return p
}

func (p *process) Write(b []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.out.Write(b)
}

func (p *process) said() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.out.String()
}

func (p *process) waitFor(what string, ok func() bool) {
	p.t.Helper()
	for deadline := time.Now().Add(time.Minute); !ok(); time.Sleep(10 * time.Millisecond) {
		select {
		case err := <-p.done:
			p.t.Fatalf("it has ended: %v\n%s", err, p.said())
		default:
		}
		if time.Now().After(deadline) {
			p.t.Fatalf("the wait for it %s is too long\n%s", what, p.said())
		}
	}
}

// end ends the process with Ctrl-C, after which it has to end by itself.
func (p *process) end() {
	p.t.Helper()
	if runtime.GOOS == "windows" { // where no process can send that to a single other one
		p.cmd.Process.Kill()
		<-p.done
		return
	}
	if err := p.cmd.Process.Signal(os.Interrupt); err != nil {
		p.t.Fatal(err)
	}
	if err := <-p.done; err != nil {
		p.t.Errorf("%v\n%s", err, p.said())
	}
}

// freeAddress returns an address that nobody listens at.
func freeAddress(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}
