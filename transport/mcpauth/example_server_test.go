package mcpauth_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/modelcontextprotocol/go-sdk/mcp"

	"github.com/stayauth/stayauth/testdata/realparts"
	"github.com/stayauth/stayauth/tokencache"
	"github.com/stayauth/stayauth/transport"
	"github.com/stayauth/stayauth/transport/login"
	"github.com/stayauth/stayauth/transport/mcpauth"
	"github.com/stayauth/stayauth/transport/oauthtest"
	"github.com/stayauth/stayauth/transport/provider"
)

// A trusted is an authorization server that the example of the SDK may be told to trust. All that
// it is sent goes through a proxy, which remembers it.
type trusted struct {
	realparts.MCPSetting
	as *oauthtest.Server

	mu   sync.Mutex
	sent bytes.Buffer
}

func newTrusted(t *testing.T) *trusted {
	tr := &trusted{as: oauthtest.New(oauthtest.Config{Policy: oauthtest.StrictFamily, AuthStyle: oauthtest.AuthNone, Scope: "read write"})}
	if err := tr.as.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(tr.as.Close)
	to, err := url.Parse(tr.as.URL())
	if err != nil {
		t.Fatal(err)
	}
	mux := http.NewServeMux()
	proxy := &httputil.ReverseProxy{Rewrite: func(r *httputil.ProxyRequest) {
		r.SetURL(to)
		r.Out.Host = r.In.Host // which makes the proxy the issuer
	}}
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		dump, err := httputil.DumpRequest(r, true)
		if err != nil {
			t.Error(err)
		}
		tr.mu.Lock()
		tr.sent.Write(dump)
		tr.mu.Unlock()
		proxy.ServeHTTP(w, r)
	})
	mux.HandleFunc("POST /introspect", tr.introspect) // RFC 7662
	front := httptest.NewServer(mux)
	t.Cleanup(front.Close)
	tr.MCPSetting = realparts.MCPSetting{Issuer: front.URL, Introspection: front.URL + "/introspect", Client: realparts.Client{ID: "mcp", Secret: "introspects"}}
	return tr
}

func (tr *trusted) introspect(w http.ResponseWriter, r *http.Request) {
	if id, secret, ok := r.BasicAuth(); !ok || id != tr.Client.ID || secret != tr.Client.Secret {
		http.Error(w, "unauthorized", http.StatusUnauthorized)
		return
	}
	token := r.PostFormValue("token")
	answer := map[string]any{"active": tr.as.Valid(token), "sub": "user", "exp": time.Now().Add(time.Hour).Unix()}
	if current := tr.as.Current("user"); current.AccessToken == token {
		answer["scope"] = current.Scope
	}
	json.NewEncoder(w).Encode(answer)
}

// wasSent returns what it has been sent since it was last asked.
func (tr *trusted) wasSent() []byte {
	tr.mu.Lock()
	defer tr.mu.Unlock()
	defer tr.sent.Reset()
	return slices.Clone(tr.sent.Bytes())
}

// The example of a protected server that the SDK comes with, as a program of its own: agents with
// handlers of this package log in there once, for all their runs; the user refuses to give them
// more, and agrees; and the server moves to another authorization server, which is sent nothing of
// the login at the first, and back (C53, C104, C107).
func TestExampleServerOfTheSDK(t *testing.T) {
	first, second := newTrusted(t), newTrusted(t)
	server := realparts.StartMCPServer(t, first.MCPSetting)
	dir := t.TempDir()
	var logins atomic.Int32
	var without string // a scope that the user does not give
	var refuses bool   // to log in
	newHandler := func() *mcpauth.Handler {
		store, err := tokencache.OpenDir(dir)
		if err != nil {
			t.Fatal(err)
		}
		cache, err := tokencache.New(store, tokencache.KeyBytes(bytes.Repeat([]byte{7}, 32)))
		if err != nil {
			t.Fatal(err)
		}
		h, err := mcpauth.New(mcpauth.Config{
			Cache:  cache,
			Client: provider.Client{Registered: map[string]provider.Credentials{first.Issuer: {ID: "client"}, second.Issuer: {ID: "client"}}},
			Login: func(ctx context.Context, cfg login.Config) (*tokencache.Record, error) {
				logins.Add(1)
				if refuses {
					return nil, &transport.Error{Kind: transport.ErrLoginRequired, Op: "login", Code: "access_denied"}
				}
				e := *cfg.Endpoint
				e.Scopes = slices.DeleteFunc(append([]string{"write"}, e.Scopes...), func(s string) bool { return s == without })
				cfg.Endpoint, cfg.Out = &e, io.Discard
				cfg.Open = func(_ context.Context, url string) error {
					go func() {
						if resp, err := http.Get(url); err == nil {
							resp.Body.Close()
						}
					}()
					return nil
				}
				return login.Loopback(ctx, cfg)
			},
		})
		if err != nil {
			t.Fatal(err)
		}
		return h
	}
	// run is an agent that starts, calls the tool and ends.
	run := func() error {
		h := newHandler()
		defer h.Close(context.Background())
		session, err := mcp.NewClient(&mcp.Implementation{Name: "agent", Version: "1"}, nil).Connect(t.Context(),
			&mcp.StreamableClientTransport{Endpoint: server.URL(), OAuthHandler: h, DisableStandaloneSSE: true, MaxRetries: -1}, nil)
		if err != nil {
			return err
		}
		defer session.Close()
		result, err := session.CallTool(t.Context(), &mcp.CallToolParams{Name: "echo", Arguments: map[string]any{"input": "hello"}})
		if err == nil && (result.IsError || result.Content[0].(*mcp.TextContent).Text != "hello") {
			t.Errorf("the tool has answered %q", result.Content[0].(*mcp.TextContent).Text)
		}
		return err
	}
	twoRun := func() {
		t.Helper()
		var running sync.WaitGroup
		for range 2 {
			running.Go(func() {
				if err := run(); err != nil {
					t.Error(err)
				}
			})
		}
		running.Wait()
	}
	wantLogins := func(want int32) {
		t.Helper()
		if got := logins.Load(); got != want {
			t.Fatalf("the user was asked to log in %d times, want %d", got, want)
		}
	}

	without = "read"
	if err := run(); err == nil {
		t.Error("the server has served a login without the scope that it wants")
	}
	wantLogins(1)
	refuses = true
	if err := run(); !errors.Is(err, transport.ErrLoginRequired) {
		t.Errorf("refused: %v", err)
	}
	wantLogins(2)
	without, refuses = "", false
	twoRun()
	wantLogins(3)
	twoRun()
	wantLogins(3)

	theirs := first.as.Secrets()
	first.wasSent()
	server.Change(second.MCPSetting)
	twoRun()
	wantLogins(4)
	sent := second.wasSent()
	for _, secret := range theirs {
		if bytes.Contains(sent, []byte(secret)) {
			t.Error("the second authorization server was sent something of the first")
		}
	}
	if sent := first.wasSent(); len(sent) > 0 {
		t.Errorf("the first authorization server was sent %d bytes", len(sent))
	}
	server.Change(first.MCPSetting)
	twoRun()
	wantLogins(4)
	for _, tr := range []*trusted{first, second} {
		if c := tr.as.Counts(); c.Reuses != 0 || c.InvalidGrants != 0 {
			t.Errorf("an authorization server counted %+v", c)
		}
	}
}
