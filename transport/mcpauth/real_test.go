package mcpauth_test

import (
	"context"
	"io"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/modelcontextprotocol/go-sdk/auth"
	"github.com/modelcontextprotocol/go-sdk/mcp"
	"github.com/modelcontextprotocol/go-sdk/oauthex"

	"github.com/stayauth/stayauth/testdata/realparts"
	"github.com/stayauth/stayauth/tokencache"
	"github.com/stayauth/stayauth/transport/login"
	"github.com/stayauth/stayauth/transport/mcpauth"
	"github.com/stayauth/stayauth/transport/provider"
)

// C110: an agent that nobody has registered anywhere, at an official MCP server and a certified
// authorization server: it registers itself and logs in once, for all its runs.
func TestRealAuthorizationServer(t *testing.T) {
	as := realparts.OIDCProvider(t)
	mux := http.NewServeMux()
	server := httptest.NewServer(mux)
	defer server.Close()
	s := mcp.NewServer(&mcp.Implementation{Name: "test", Version: "1"}, nil)
	const metadata = "/.well-known/oauth-protected-resource/mcp"
	mux.Handle(metadata, auth.ProtectedResourceMetadataHandler(&oauthex.ProtectedResourceMetadata{
		Resource: server.URL + "/mcp", AuthorizationServers: []string{as.Issuer}, ScopesSupported: []string{"api"}}))
	verify := func(ctx context.Context, token string, _ *http.Request) (*auth.TokenInfo, error) {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, as.API, nil)
		if err != nil {
			return nil, err
		}
		req.Header.Set("Authorization", "Bearer "+token)
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			return nil, err
		}
		defer resp.Body.Close()
		if resp.StatusCode != http.StatusOK {
			return nil, auth.ErrInvalidToken
		}
		return &auth.TokenInfo{Expiration: time.Now().Add(time.Minute)}, nil
	}
	mux.Handle("/mcp", auth.RequireBearerToken(verify, &auth.RequireBearerTokenOptions{ResourceMetadataURL: server.URL + metadata})(
		mcp.NewStreamableHTTPHandler(func(*http.Request) *mcp.Server { return s }, nil)))

	store, logins := new(tokencache.Memory), 0
	for range 3 {
		cache, err := tokencache.New(store, nil)
		if err != nil {
			t.Fatal(err)
		}
		h, err := mcpauth.New(mcpauth.Config{Cache: cache, Client: provider.Client{Name: "Agent"},
			Login: func(ctx context.Context, cfg login.Config) (*tokencache.Record, error) {
				logins++
				jar, _ := cookiejar.New(nil) // There is never an error.
				cfg.Out = io.Discard
				cfg.Open = func(_ context.Context, url string) error {
					go func() {
						if resp, err := (&http.Client{Jar: jar}).Get(url); err == nil {
							resp.Body.Close()
						}
					}()
					return nil
				}
				rec, err := login.Loopback(ctx, cfg)
				if rec != nil {
					rec.Expiry = time.Now() // so that its first use is a refresh
				}
				return rec, err
			}})
		if err != nil {
			t.Fatal(err)
		}
		session, err := mcp.NewClient(&mcp.Implementation{Name: "agent", Version: "1"}, nil).Connect(t.Context(),
			&mcp.StreamableClientTransport{Endpoint: server.URL + "/mcp", OAuthHandler: h, DisableStandaloneSSE: true, MaxRetries: -1}, nil)
		if err != nil {
			t.Fatal(err)
		}
		session.Close()
		if err := h.Close(t.Context()); err != nil {
			t.Error(err)
		}
	}
	if c := as.Counts(); logins != 1 || c.Reuses != 0 || c.OK["refresh_token"] != 1 {
		t.Errorf("%d logins, and the provider counted %+v", logins, c)
	}
}
