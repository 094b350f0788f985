package grants_test

import (
	"bufio"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"log"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/oauth2"

	"github.com/stayauth/stayauth/tokencache"
	"github.com/stayauth/stayauth/transport"
	"github.com/stayauth/stayauth/transport/grants"
	"github.com/stayauth/stayauth/transport/internal/testkit"
	"github.com/stayauth/stayauth/transport/oauthtest"
	"github.com/stayauth/stayauth/transport/provider"
)

// A service calls an API for those who call it: each of their tokens is exchanged for one of its
// own, also those of the same user, once while that lives; and what the caller's token cannot bring
// any more nothing else does (C94).
func TestOnBehalfOf(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, oauthtest.AuthBasic)
		e := w.endpoint()
		e.ClientSecret, e.AuthStyle = tokencache.Secret(w.srv.ClientSecret()), oauth2.AuthStyleInHeader
		pool, err := transport.NewPool(transport.PoolConfig{Source: grants.OnBehalfOf(e)})
		must(t, err)
		defer pool.Close(context.Background())
		var seen []string
		api := testkit.RoundTripFunc(func(req *http.Request) (*http.Response, error) {
			seen = append(seen, strings.TrimPrefix(req.Header.Get("Authorization"), "Bearer "))
			return &http.Response{StatusCode: 200, Header: http.Header{}, Body: http.NoBody, Request: req}, nil
		})
		rt, err := transport.New(transport.Config{Pool: pool, Origins: []string{"https://api.test"}, Base: api})
		must(t, err)
		call := func(ctx context.Context) error {
			req, err := http.NewRequestWithContext(ctx, "GET", "https://api.test/", nil)
			must(t, err)
			resp, err := rt.RoundTrip(req)
			if err == nil {
				resp.Body.Close()
			}
			return err
		}
		ann, again, bob := w.srv.Login("ann").AccessToken, w.srv.Login("ann").AccessToken, w.srv.Login("bob").AccessToken
		for _, token := range []string{ann, again, bob} {
			for range 3 {
				must(t, call(grants.WithCaller(t.Context(), tokencache.Secret(token))))
			}
		}
		if n := len(slices.Compact(slices.Sorted(slices.Values(seen)))); n != 3 || w.srv.Counts().TokenRequests != 3 || slices.Contains(seen, ann) {
			t.Errorf("%d tokens by %d requests", n, w.srv.Counts().TokenRequests)
		}
		time.Sleep(2 * time.Hour) // All tokens have expired, also those of the callers.
		if err := call(grants.WithCaller(t.Context(), tokencache.Secret(ann))); err == nil || strings.Contains(err.Error(), ann) {
			t.Errorf("got %v", err)
		}
		for name, ctx := range map[string]context.Context{
			"no caller":       transport.WithAccount(t.Context(), "ann"),
			"another account": transport.WithAccount(grants.WithCaller(t.Context(), tokencache.Secret(bob)), "ann"),
		} {
			n := w.srv.Counts().TokenRequests
			if err := call(ctx); !errors.Is(err, transport.ErrMisconfigured) || !strings.Contains(err.Error(), "WithCaller") || w.srv.Counts().TokenRequests != n {
				t.Errorf("%s: %v", name, err)
			}
		}
		if text := fmt.Sprint(grants.WithCaller(t.Context(), tokencache.Secret(bob))); strings.Contains(text, bob) {
			t.Errorf("a context prints as %s", text)
		}
	})
}

// What Entra or an API wants of the user goes back to the caller, once, and is not asked for again
// with the same token (C94, C103).
func TestClaimsGoBackToTheCaller(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const wanted = `{"access_token":{"polids":{"essential":true,"values":["9ab03e19-ed42-4168-b6b7-7001fb3e933a"]}}}`
		answer, asked, claims := "behalf", 0, ""
		e := provider.Microsoft("contoso.onmicrosoft.com").Endpoint("robot", "secret", "https://graph.microsoft.com/User.Read")
		e.Base = testkit.RoundTripFunc(func(req *http.Request) (*http.Response, error) {
			asked++
			claims = formOf(t, req).Get("claims")
			wire, err := os.ReadFile(filepath.Join(robotAnswers, "microsoft", "robot", answer+".http"))
			must(t, err)
			return http.ReadResponse(bufio.NewReader(strings.NewReader(string(wire))), req)
		})
		pool, err := transport.NewPool(transport.PoolConfig{Source: grants.MicrosoftOnBehalfOf(e)})
		must(t, err)
		defer pool.Close(context.Background())
		challenge := ""
		api := testkit.RoundTripFunc(func(req *http.Request) (*http.Response, error) {
			resp := &http.Response{StatusCode: 200, Header: http.Header{}, Body: io.NopCloser(strings.NewReader("")), Request: req}
			if challenge != "" {
				resp.StatusCode = 401
				resp.Header.Set("WWW-Authenticate", challenge)
			}
			return resp, nil
		})
		rt, err := transport.New(transport.Config{Pool: pool, Origins: []string{"https://graph.microsoft.com"}, Base: api})
		must(t, err)
		call := func(caller string) (int, error) {
			req, err := http.NewRequestWithContext(grants.WithCaller(t.Context(), tokencache.Secret(caller)), "GET", "https://graph.microsoft.com/v1.0/me", nil)
			must(t, err)
			resp, err := rt.RoundTrip(req)
			if err != nil {
				return 0, err
			}
			resp.Body.Close()
			return resp.StatusCode, nil
		}
		wantClaims := func(err error) {
			t.Helper()
			if told, ok := errors.AsType[*transport.Error](err); !ok || told.Kind != transport.ErrLoginRequired || told.Claims != wanted {
				t.Errorf("got %v", err)
			}
		}

		// The provider wants more for this API at once.
		answer = "interaction"
		for range 5 {
			_, err = call("weak")
			wantClaims(err)
			time.Sleep(time.Second)
		}
		if asked != 1 {
			t.Errorf("asked %d times", asked)
		}
		answer = "behalf"
		if status, err := call("strong"); status != 200 || err != nil {
			t.Errorf("the token that the caller has come back with: %d, %v", status, err)
		}

		// The API wants more of a token that it has accepted before.
		challenge = `Bearer error="insufficient_claims", claims="` + base64.StdEncoding.EncodeToString([]byte(wanted)) + `"`
		answer = "interaction"
		if status, err := call("strong"); status != 401 || err != nil || claims != wanted {
			t.Errorf("%d, %v, and asked for %s", status, err, claims)
		}
		_, err = call("strong")
		wantClaims(err)
	})
}

// A service that reads the profile of whoever calls it. It has validated the caller's token.
func ExampleMicrosoftOnBehalfOf() {
	p := provider.Microsoft("contoso.onmicrosoft.com")
	endpoint := p.Endpoint("00000000-0000-0000-0000-000000000000", "client-secret", "https://graph.microsoft.com/User.Read")
	pool, err := transport.NewPool(transport.PoolConfig{Source: grants.MicrosoftOnBehalfOf(endpoint)})
	if err != nil {
		log.Fatal(err)
	}
	rt, err := transport.New(transport.Config{Pool: pool, Origins: p.Origins})
	if err != nil {
		log.Fatal(err)
	}
	http.HandleFunc("/profile", func(w http.ResponseWriter, r *http.Request) {
		token := strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer ")
		ctx := grants.WithCaller(r.Context(), tokencache.Secret(token))
		req, _ := http.NewRequestWithContext(ctx, "GET", "https://graph.microsoft.com/v1.0/me", nil)
		resp, err := rt.RoundTrip(req)
		if e, ok := errors.AsType[*transport.Error](err); ok && e.Kind == transport.ErrLoginRequired {
			claims := base64.StdEncoding.EncodeToString([]byte(e.Claims))
			w.Header().Set("WWW-Authenticate", `Bearer error="insufficient_claims", claims="`+claims+`"`)
			http.Error(w, "log in again", http.StatusUnauthorized)
			return
		}
		if err != nil {
			http.Error(w, "Microsoft Graph cannot be asked now", http.StatusServiceUnavailable)
			return
		}
		defer resp.Body.Close()
		io.Copy(w, resp.Body)
	})
}
