package transport_test

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"sync"
	"testing"

	"golang.org/x/oauth2"

	"github.com/stayauth/stayauth/tokencache"
	"github.com/stayauth/stayauth/transport"
	"github.com/stayauth/stayauth/transport/endpoint"
	"github.com/stayauth/stayauth/transport/internal/testkit"
	"github.com/stayauth/stayauth/transport/oauthtest"
)

// A caller is a process of its own that calls an API, and perhaps further ones, by tokens that are
// for each of them.
type caller struct {
	Name, Dir, TokenURL, ClientID, Secret, API, Origin string

	Further []string // origins
}

const callerEnv = "STAYAUTH_TEST_CALLER"

// callAPI is the program of a caller. For each number that it reads it makes so many requests at
// once, and writes "done" or what went wrong.
func callAPI(plan string) error {
	var c caller
	if err := json.Unmarshal([]byte(plan), &c); err != nil {
		return err
	}
	store, err := tokencache.OpenDir(c.Dir)
	if err != nil {
		return err
	}
	cache, err := tokencache.New(store, tokencache.KeyBytes(bytes.Repeat([]byte{7}, 32)))
	if err != nil {
		return err
	}
	rt := http.DefaultTransport
	for _, origin := range append([]string{c.Origin}, c.Further...) {
		source, err := transport.NewSource(transport.SourceConfig{Cache: cache, Refresher: c.refresher(origin)})
		if err != nil {
			return err
		}
		if rt, err = transport.New(transport.Config{Source: source, Origins: []string{origin}, Base: rt}); err != nil {
			return err
		}
	}
	client := &http.Client{Transport: rt}
	for in := bufio.NewReader(os.Stdin); ; {
		var n int
		if _, err := fmt.Fscanln(in, &n); err != nil {
			return nil // That was all.
		}
		errs := make([]error, n)
		var wg sync.WaitGroup
		for i := range n {
			wg.Go(func() { errs[i] = c.get(client, i) })
		}
		wg.Wait()
		if err := errors.Join(errs...); err != nil {
			fmt.Printf("%q\n", err)
			continue
		}
		fmt.Println("done")
	}
}

func (c caller) endpoint() *endpoint.Endpoint {
	return &endpoint.Endpoint{TokenURL: c.TokenURL, ClientID: c.ClientID, ClientSecret: tokencache.Secret(c.Secret), AuthStyle: oauth2.AuthStyleInHeader}
}

// refresher returns the Refresher of the token for an API.
func (c caller) refresher(origin string) transport.Refresher {
	e := c.endpoint()
	if len(c.Further) > 0 {
		e.Params, e.AuthParams = url.Values{"resource": {c.Origin}}, url.Values{"resource": c.Further}
	}
	if origin != c.Origin {
		return e.For(url.Values{"resource": {origin}})
	}
	return e
}

// get makes the request number i.
func (c caller) get(client *http.Client, i int) error {
	api := c.API
	if i %= len(c.Further) + 1; i > 0 {
		api = c.Further[i-1] + "/api"
	}
	req, err := http.NewRequest("GET", api, nil)
	if err != nil {
		return err
	}
	req.Header.Set("X-Process", c.Name)
	resp, err := client.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if io.Copy(io.Discard, resp.Body); resp.StatusCode != http.StatusOK {
		return errors.New(resp.Status)
	}
	return nil
}

// start starts the process. calls makes n requests at once there, and waits for them.
func (c caller) start(t *testing.T) (calls func(n int)) {
	t.Helper()
	_, in, lines := c.launch(t)
	return func(n int) {
		fmt.Fprintln(in, n)
		if !lines.Scan() || lines.Text() != "done" {
			t.Errorf("process %s: %s %v", c.Name, lines.Text(), lines.Err())
		}
	}
}

// launch starts the process, and returns what it reads and writes.
func (c caller) launch(t *testing.T) (process *os.Process, in io.Writer, lines *bufio.Scanner) {
	t.Helper()
	plan, err := json.Marshal(c)
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(os.Args[0], "-test.run=^$")
	cmd.Env = append(os.Environ(), callerEnv+"="+string(plan))
	cmd.Stderr = os.Stderr
	stdin, err1 := cmd.StdinPipe()
	out, err2 := cmd.StdoutPipe()
	if err := errors.Join(err1, err2, cmd.Start()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { stdin.Close(); cmd.Wait() })
	return cmd.Process, stdin, bufio.NewScanner(out)
}

// C103: 100 goroutines in 4 processes, which all have the token in memory: one refusal causes
// one refresh, with the claims. A process that knows of the refusal, from the API or from the
// cache, sends the token never again.
func TestC103OneRefusalInFourProcesses(t *testing.T) {
	for name, first := range map[string]int{"one is refused": 1, "all at once": 0} {
		t.Run(name, func(t *testing.T) {
			srv := oauthtest.New(oauthtest.Config{Policy: oauthtest.StrictFamily})
			if err := srv.Start(); err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { testkit.NoteSecrets(srv.Secrets()) })
			t.Cleanup(srv.Close)
			c := caller{Dir: t.TempDir(), TokenURL: srv.TokenURL(), ClientID: srv.ClientID(), Secret: srv.ClientSecret(), API: srv.APIURL(), Origin: srv.APIOrigin()}
			store, err := tokencache.OpenDir(c.Dir)
			if err != nil {
				t.Fatal(err)
			}
			cache, err := tokencache.New(store, tokencache.KeyBytes(bytes.Repeat([]byte{7}, 32)))
			if err != nil {
				t.Fatal(err)
			}
			source, err := transport.NewSource(transport.SourceConfig{Cache: cache, Refresher: c.endpoint()})
			if err != nil {
				t.Fatal(err)
			}
			old := srv.Login("ann")
			if err := source.Login(t.Context(), record(old)); err != nil {
				t.Fatal(err)
			}

			var mu sync.Mutex
			sent := map[string]int{} // the old token, by process
			srv.Fault("/api", 0, func(api http.Handler) http.Handler {
				return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
					if r.Header.Get("Authorization") == "Bearer "+old.AccessToken {
						mu.Lock()
						sent[r.Header.Get("X-Process")]++
						mu.Unlock()
					}
					api.ServeHTTP(w, r)
				})
			})
			var calls []func(int)
			for i := range 4 {
				c.Name = fmt.Sprint(i)
				calls = append(calls, c.start(t))
				calls[i](1)
			}
			all := func() {
				var wg sync.WaitGroup
				for _, call := range calls {
					wg.Go(func() { call(25) })
				}
				wg.Wait()
			}
			wantSent := func(when string, want map[string]int) {
				t.Helper()
				mu.Lock()
				defer mu.Unlock()
				for name, n := range sent {
					if n > want[name] {
						t.Errorf("%s process %s sent the old token %d times, want at most %d", when, name, n, want[name])
					}
				}
				clear(sent)
			}
			wantSent("at first", map[string]int{"0": 1, "1": 1, "2": 1, "3": 1})

			srv.DemandClaims(newLocation)
			calls[0](first)
			wantSent("with the refusal", map[string]int{"0": first})
			all()
			wantSent("afterwards", map[string]int{"0": 25 - 25*first, "1": 25, "2": 25, "3": 25})
			all()
			wantSent("from then on", nil)
			c.Name = "later"
			c.start(t)(25)
			wantSent("later", nil)
			if n := srv.Counts(); n.TokenRequests != 1 || n.Rotations != 1 || n.Reuses != 0 || n.InvalidGrants != 0 {
				t.Errorf("%+v", n)
			}
		})
	}
}
