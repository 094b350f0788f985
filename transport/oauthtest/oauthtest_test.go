package oauthtest_test

import (
	"encoding/json"
	"io"
	"net/http"
	"net/url"
	"os"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/stayauth/stayauth/transport/internal/testkit"
	. "github.com/stayauth/stayauth/transport/oauthtest"
)

func TestMain(m *testing.M) { testkit.Main(leakChecked{m}) }

// leakChecked are tests that fail if they leave a goroutine of a server or of a connection.
type leakChecked struct{ *testing.M }

func (m leakChecked) Run() int {
	code := m.M.Run()
	deadline := time.Now().Add(time.Minute)
	for code == 0 {
		buf := make([]byte, 1<<20)
		stacks := string(buf[:runtime.Stack(buf, true)])
		if !strings.Contains(stacks, "net/http.") && !strings.Contains(stacks, "oauthtest.(") {
			break
		}
		if time.Now().After(deadline) {
			os.Stderr.WriteString("goroutines left behind:\n" + stacks)
			code = 1
		}
		time.Sleep(10 * time.Millisecond)
	}
	return code
}

// A client is the simplest one that could be written: what it sees is what the
// server does.
type client struct {
	t  *testing.T
	s  *Server
	rt http.RoundTripper
}

func inMemory(t *testing.T, cfg Config) client {
	s := New(cfg)
	t.Cleanup(s.Close)
	return client{t, s, s.RoundTripper()}
}

type answer struct {
	Status       int
	Header       http.Header
	Body         string
	AccessToken  string `json:"access_token"`
	RefreshToken string `json:"refresh_token"`
	IDToken      string `json:"id_token"`
	ExpiresIn    *int   `json:"expires_in"`
	Scope        string `json:"scope"`
	Error        string `json:"error"`
}

// post sends a form as the client, with Basic authentication.
func (c client) post(path string, kv ...string) (answer, error) {
	c.t.Helper()
	form := url.Values{}
	for i := 0; i < len(kv); i += 2 {
		form.Add(kv[i], kv[i+1])
	}
	req, err := http.NewRequestWithContext(c.t.Context(), "POST", c.s.URL()+path, strings.NewReader(form.Encode()))
	if err != nil {
		c.t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	req.SetBasicAuth(url.QueryEscape(c.s.ClientID()), url.QueryEscape(c.s.ClientSecret()))
	return c.send(req)
}

func (c client) send(req *http.Request) (answer, error) {
	resp, err := c.rt.RoundTrip(req)
	if err != nil {
		return answer{}, err
	}
	defer resp.Body.Close()
	a := answer{Status: resp.StatusCode, Header: resp.Header}
	body, err := io.ReadAll(io.LimitReader(resp.Body, 1<<20))
	a.Body = string(body)
	json.Unmarshal(body, &a)
	return a, err
}

// refresh spends a refresh token and wants an answer, of whatever kind.
func (c client) refresh(token string) answer {
	c.t.Helper()
	a, err := c.post("/token", "grant_type", "refresh_token", "refresh_token", token)
	if err != nil {
		c.t.Fatal(err)
	}
	return a
}

// call calls the API.
func (c client) call(access, body string) answer {
	c.t.Helper()
	req, err := http.NewRequestWithContext(c.t.Context(), "POST", c.s.APIURL()+"/echo", strings.NewReader(body))
	if err != nil {
		c.t.Fatal(err)
	}
	if access != "" {
		req.Header.Set("Authorization", "Bearer "+access)
	}
	a, err := c.send(req)
	if err != nil {
		c.t.Fatal(err)
	}
	return a
}
