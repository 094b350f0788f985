package mcpauth_test

import (
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"

	"github.com/stayauth/stayauth/transport"
	"github.com/stayauth/stayauth/transport/provider"
)

// The browser comes back to where the program is registered with. Answers of a server that does not
// name itself in them could be taken there for those of another (C112).
func TestRedirectURIsOfTheClient(t *testing.T) {
	w := newWorld(t)
	as, _ := w.now()
	client := provider.Client{Registered: map[string]provider.Credentials{as.URL(): {ID: "client"}},
		Name: "Agent", DocumentURL: "https://app.test/client.json", RedirectURIs: []string{"http://127.0.0.1/elsewhere"}}
	h := w.newHandler("", client)
	defer h.Close(t.Context())
	if err := w.connect(h); err != nil {
		t.Fatal(err)
	}
	u, err := url.Parse(w.opened.Load().(string))
	if err != nil {
		t.Fatal(err)
	}
	if back := u.Query().Get("redirect_uri"); !strings.HasPrefix(back, "http://127.0.0.1:") || !strings.HasSuffix(back, "/elsewhere") {
		t.Errorf("the browser comes back to %q", back)
	}

	mux := http.NewServeMux()
	stranger := httptest.NewServer(mux)
	defer stranger.Close()
	mux.HandleFunc("/.well-known/oauth-authorization-server", func(rw http.ResponseWriter, _ *http.Request) {
		json.NewEncoder(rw).Encode(map[string]any{"issuer": stranger.URL, "authorization_endpoint": as.URL() + "/authorize", "token_endpoint": stranger.URL + "/token",
			"client_id_metadata_document_supported": true, "code_challenge_methods_supported": []string{"S256"}})
	})
	w.mu.Lock()
	w.first = stranger.URL
	w.mu.Unlock()
	client.Registered = nil
	before := w.logins.Load()
	other := w.newHandler("other", client)
	defer other.Close(t.Context())
	if err := w.connect(other); !errors.Is(err, transport.ErrMisconfigured) {
		t.Errorf("got %v", err)
	}
	w.wantLogins(before)
}
