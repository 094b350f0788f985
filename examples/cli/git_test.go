//go:build unix

package main

import (
	"net/http"
	"net/http/cgi"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stayauth/stayauth/testdata/realparts"
	"github.com/stayauth/stayauth/transport"
)

// git clones with the token, and after a token that the server has refused with the next one.
func TestGit(t *testing.T) {
	_, err := exec.LookPath("git")
	realparts.Require(t, "git", err)
	tm := newTerminal(t)
	var refused atomic.Value // a token
	refused.Store("")
	repository := gitRepository(t, func(user, token string) bool {
		return user == "oauth2" && token != refused.Load() && tm.srv.Valid(token)
	})
	clone := func(works bool) {
		t.Helper()
		out, err := tm.git("-c", "credential.helper=", "-c", "credential.helper=!stayauth git-credential -origin "+strings.TrimSuffix(repository, "/r.git"),
			"clone", "-q", repository, filepath.Join(t.TempDir(), "r"))
		if works != (err == nil) {
			t.Fatalf("%v: %s", err, out)
		}
	}
	clone(true)
	if err := expire(tm.dir); err != nil {
		t.Fatal(err)
	}
	clone(true)
	if c := tm.srv.Counts(); c.Rotations != 1 {
		t.Errorf("%d rotations, want 1", c.Rotations)
	}

	old := tm.srv.Current("user").AccessToken
	refused.Store(old)
	if err := age(tm.dir, time.Hour); err != nil { // No token is refused in its first seconds.
		t.Fatal(err)
	}
	clone(false) // git asks once.
	clone(true)
	if c := tm.srv.Counts(); c.Rotations != 2 || c.Reuses != 0 || c.InvalidGrants != 0 {
		t.Errorf("%+v", c)
	}
	// What the server wants instead is more than a refresh brings.
	current := tm.srv.Current("user").AccessToken
	if err := age(tm.dir, time.Hour); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("stayauth", "git-credential", "-origin", "http://"+hostOf(repository), "erase")
	cmd.Env, cmd.Stdin = tm.environment(), strings.NewReader("protocol=http\nhost="+hostOf(repository)+"\npassword="+current+
		"\nwwwauth[]=Bearer error=\"insufficient_scope\", scope=\"write_repository\"\n")
	if out, _ := cmd.CombinedOutput(); cmd.ProcessState.ExitCode() != exitLogin || !strings.Contains(string(out), "write_repository") || tm.srv.Counts().Rotations != 2 {
		t.Errorf("%s, %+v", out, tm.srv.Counts())
	}
	// That an old token was refused is no news.
	if out := tm.ask("erase", "protocol=http\nhost="+hostOf(repository)+"\nusername=oauth2\npassword="+old+"\n", repository); out != "" || tm.srv.Counts().Rotations != 2 {
		t.Errorf("%s, %+v", out, tm.srv.Counts())
	}
}

func hostOf(address string) string { return strings.Split(address, "/")[2] }

// gitRepository serves a repository, as GitHub and GitLab do, and returns its address.
func gitRepository(t *testing.T, accepts func(user, password string) bool) string {
	dir := t.TempDir()
	bare := filepath.Join(dir, "r.git")
	if out, err := exec.Command("git", "init", "-q", "--bare", bare).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	libexec, err := exec.Command("git", "--exec-path").Output()
	if err != nil {
		t.Fatal(err)
	}
	backend := &cgi.Handler{Path: filepath.Join(strings.TrimSpace(string(libexec)), "git-http-backend"),
		Env: []string{"GIT_PROJECT_ROOT=" + dir, "GIT_HTTP_EXPORT_ALL=1"}}
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if user, password, ok := r.BasicAuth(); !ok || !accepts(user, password) {
			w.Header().Set("WWW-Authenticate", `Basic realm="git"`)
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		backend.ServeHTTP(w, r)
	}))
	t.Cleanup(srv.Close)
	return srv.URL + "/r.git"
}

// git runs git where it has no settings, and asks nobody.
func (tm *terminal) git(args ...string) ([]byte, error) {
	cmd := exec.Command("git", args...)
	cmd.Env = append(tm.environment(), "GIT_TERMINAL_PROMPT=0", "GIT_CONFIG_NOSYSTEM=1", "HOME="+tm.t.TempDir(), "GIT_ASKPASS=")
	return cmd.CombinedOutput()
}

// ask is git as it calls the helper, which is for the origin of address.
func (tm *terminal) ask(action, request, address string) string {
	tm.t.Helper()
	cmd := exec.Command("stayauth", "git-credential", "-origin", "http://"+hostOf(address), action)
	cmd.Env, cmd.Stdin = tm.environment(), strings.NewReader(request)
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		tm.t.Errorf("%s: %v", action, err)
	}
	return string(out)
}

// The token goes to the origins that it is for, and what git says to a helper is no place to
// hide another one.
func TestGitHosts(t *testing.T) {
	tm := newTerminal(t)
	const address = "http://127.0.0.1:8000"
	token := tm.srv.Current("user").AccessToken
	for request, want := range map[string]bool{
		"protocol=http\nhost=127.0.0.1:8000\n":                         true,
		"protocol=http\nhost=127.0.0.1:8000\n\nhost=example.com\n":     true,
		"protocol=http\nhost=127.0.0.1:8000\nunknown=x\nunknown[]=y\n": true,
		"protocol=https\nhost=127.0.0.1:8000\n":                        false,
		"protocol=http\nhost=127.0.0.1\n":                              false,
		"protocol=http\nhost=127.0.0.1:8000.example.com\n":             false,
		"protocol=http\nhost=127.0.0.1:8000#.example.com\n":            false,
		"protocol=http\nhost=127.0.0.1:8000/.example.com\n":            false,
		"protocol=http\nhost=127.0.0.1:8000?.example.com\n":            false,
		"protocol=http\nhost=127.0.0.1:8000@example.com\n":             false,
		"protocol=http\nhost=x@127.0.0.1:8000\n":                       false,
		"protocol=http\nhost=127.0.0.1:8000\\@example.com\n":           false,
		"protocol=http\nhost=127.0.0.1:8000 \n":                        false,
		"protocol=http\nhost=\n":                                       false,
		"protocol=cert\nhost=127.0.0.1:8000\n":                         false,
		"host=127.0.0.1:8000\n":                                        false,
		"":                                                             false,
	} {
		out := tm.ask("get", request, address)
		if got := strings.Contains(out, token); got != want || !want && out != "" {
			t.Errorf("%q: %q", request, out)
		}
	}
	for _, action := range []string{"store", "capability", "nonsense"} {
		if out := tm.ask(action, "protocol=http\nhost=127.0.0.1:8000\nusername=ann\npassword=other\n", address); out != "" {
			t.Errorf("%s: %q", action, out)
		}
	}
	if c := tm.srv.Counts(); c.TokenRequests != 0 {
		t.Errorf("%+v", c)
	}
}

// The answer is what git of any age understands.
func TestGitAnswer(t *testing.T) {
	token := transport.Token{AccessToken: "at", Type: "Bearer", Expiry: time.Unix(1800000000, 5)}
	const password = "username=ann\npassword=at\npassword_expiry_utc=1800000000\n"
	const bearer = "capability[]=authtype\nauthtype=Bearer\ncredential=at\nephemeral=1\npassword_expiry_utc=1800000000\n"
	for _, tt := range []struct{ says, want string }{
		{"", password},
		{"capability[]=authtype\n", password},
		{"wwwauth[]=Bearer realm=x\n", password},
		{"capability[]=authtype\nwwwauth[]=Bearer realm=x\n", bearer},
		{"capability[]=authtype\ncapability[]=state\nwwwauth[]=Bearer realm=x\nwwwauth[]=bAsic realm=x\n", password},
	} {
		g, err := readGit(strings.NewReader(tt.says))
		if err != nil {
			t.Fatal(err)
		}
		if got, err := g.answer("ann", token); err != nil || got != tt.want {
			t.Errorf("%q: %v, %q", tt.says, err, got)
		}
	}
	for _, name := range []string{"a\nb", "a\rb", "a\x00"} {
		if got, err := (gitRequest{}).answer(name, token); err == nil {
			t.Errorf("%q: %q", name, got)
		}
	}
	if got, err := (gitRequest{}).answer("ann", transport.Token{AccessToken: "at"}); err != nil || got != "username=ann\npassword=at\n" {
		t.Errorf("without an expiry: %v, %q", err, got)
	}
}

// The address of a repository cannot add lines that name the host of another token, as in
// CVE-2020-5260, nor anything that looks like a line (CVE-2024-52006).
func TestGitHearsOneHost(t *testing.T) {
	for _, says := range []string{
		"protocol=https\nhost=evil.example\nhost=example.com\n",
		"protocol=https\nhost=example.com\nhost=evil.example\n",
		"protocol=http\nhost=example.com\nprotocol=https\n",
		"protocol=https\nhost=example.com\r\n",
		"protocol=https\r\nhost=example.com\n",
		"protocol=https\nhost=evil.example\rhost=example.com\n",
		"protocol=https\nhost=example.com\x00.evil.example\n",
		"protocol=https\nhost=example.com\npassword=a\npassword=b\n",
	} {
		if g, err := readGit(strings.NewReader(says)); err == nil {
			t.Errorf("%q: %q", says, g.host)
		}
	}
	g, err := readGit(strings.NewReader("capability[]=authtype\ncapability[]=state\nprotocol=https\nhost=example.com\nwwwauth[]=a\nwwwauth[]=b"))
	if err != nil || g.host != "example.com" || len(g.challenges) != 2 {
		t.Errorf("%+v, %v", g, err)
	}
}

// Whatever git says, an address that is read from it is that of the host that it has said.
func FuzzGitRequest(f *testing.F) {
	f.Add("protocol=https\nhost=example.com\npath=a\n\n")
	f.Add("protocol=https\nhost=example.com#.evil.example\nwwwauth[]=Bearer\ncapability[]=authtype\n")
	f.Add("password=a\ncredential=b\nerror\n")
	f.Fuzz(func(t *testing.T, text string) {
		g, err := readGit(strings.NewReader(text))
		if err != nil {
			return
		}
		if address, ok := g.address(); ok {
			req, err := http.NewRequest(http.MethodHead, address, nil)
			if err != nil || req.URL.Host != g.host || req.URL.Path != "" {
				t.Errorf("%q: %v", address, err)
			}
		}
		if answer, err := g.answer("ann", transport.Token{AccessToken: "at", Type: "Bearer"}); err != nil || strings.Count(answer, "\n") > 4 {
			t.Errorf("%v: %q", err, answer)
		}
	})
}
