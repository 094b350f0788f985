package mcpauth_test

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/modelcontextprotocol/go-sdk/auth"
	"github.com/modelcontextprotocol/go-sdk/mcp"
	"github.com/modelcontextprotocol/go-sdk/oauthex"

	"github.com/stayauth/stayauth/testdata/readme"
	"github.com/stayauth/stayauth/transport/oauthtest"
)

func TestMain(m *testing.M) {
	readme.Browse()
	os.Exit(m.Run())
}

// The fourth program of README: an agent that nobody has registered anywhere logs its user in once,
// and then never, at an MCP server of the official SDK, also while its authorization server is down.
func TestReadersAgent(t *testing.T) {
	t.Parallel()
	as, address := readme.Provider(t, oauthtest.Config{Policy: oauthtest.StrictFamily, AuthStyle: oauthtest.AuthNone, Scope: "read"})
	to, err := url.Parse(address)
	if err != nil {
		t.Fatal(err)
	}
	var down atomic.Bool
	front := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if down.Load() {
			panic(http.ErrAbortHandler)
		}
		httputil.NewSingleHostReverseProxy(to).ServeHTTP(w, r)
	}))
	defer front.Close()
	issuer := front.URL
	s := mcp.NewServer(&mcp.Implementation{Name: "test", Version: "1"}, nil)
	mcp.AddTool(s, &mcp.Tool{Name: "weather"}, func(context.Context, *mcp.CallToolRequest, struct{}) (*mcp.CallToolResult, any, error) {
		return &mcp.CallToolResult{}, nil, nil
	})
	mux := http.NewServeMux()
	server := httptest.NewServer(mux)
	defer server.Close()
	const metadata = "/.well-known/oauth-protected-resource/mcp"
	mux.Handle(metadata, auth.ProtectedResourceMetadataHandler(&oauthex.ProtectedResourceMetadata{
		Resource: server.URL + "/mcp", AuthorizationServers: []string{issuer}, ScopesSupported: []string{"read"}}))
	mux.Handle("/mcp", auth.RequireBearerToken(func(_ context.Context, token string, _ *http.Request) (*auth.TokenInfo, error) {
		if !as.Valid(token) {
			return nil, auth.ErrInvalidToken
		}
		return &auth.TokenInfo{Expiration: time.Now().Add(time.Minute)}, nil
	}, &auth.RequireBearerTokenOptions{ResourceMetadataURL: server.URL + metadata})(
		mcp.NewStreamableHTTPHandler(func(*http.Request) *mcp.Server { return s }, nil)))

	settings := append(readme.Browser(t), "MCP_SERVER="+server.URL+"/mcp", "MY_AGENT_PASSPHRASE=correct horse")
	app := fmt.Sprintf("stayauth-readme-%d", os.Getpid())
	readme.Logins(t, app)
	tr := readme.Try(t, strings.Replace(readme.Program(t, "mcpauth.New"), `"my-agent"`, fmt.Sprintf("%q", app), 1))
	for run := range 3 {
		down.Store(run == 2)
		out, err := tr.Command(settings...).CombinedOutput()
		if err != nil || !strings.Contains(string(out), "weather\n") {
			t.Fatalf("error %v\n%s", err, out)
		}
		tr.Works(t)
	}
	if c := as.Counts(); c.TokenRequests != 1 {
		t.Errorf("the user has logged in %d times", c.TokenRequests)
	}
}
