package grants_test

import (
	"context"
	"crypto"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stayauth/stayauth/tokencache"
	"github.com/stayauth/stayauth/transport"
	"github.com/stayauth/stayauth/transport/clientauth"
	"github.com/stayauth/stayauth/transport/grants"
	"github.com/stayauth/stayauth/transport/internal/testkit"
)

// A github is GitHub's API as its documentation describes it: "Generating a JSON Web Token (JWT)
// for a GitHub App" and "Create an installation access token for an app".
type github struct {
	t      *testing.T
	key    *rsa.PublicKey
	issued int
	status int    // of the next answer; 0: as it should be
	body   string // of that
	header http.Header
}

func (g *github) RoundTrip(req *http.Request) (*http.Response, error) {
	answer := func(status int, body string) (*http.Response, error) {
		header := http.Header{"Content-Type": {"application/json; charset=utf-8"}, "Date": {time.Now().UTC().Format(http.TimeFormat)}}
		for name, values := range g.header {
			header[name] = values
		}
		return &http.Response{StatusCode: status, Header: header, Body: io.NopCloser(strings.NewReader(body)), Request: req}, nil
	}
	if req.Method != http.MethodPost {
		return answer(404, `{}`)
	}
	if g.status != 0 {
		return answer(g.status, g.body)
	}
	token := strings.TrimPrefix(req.Header.Get("Authorization"), "Bearer ")
	if why := g.wrong(token); why != "" {
		g.t.Error(why)
		return answer(401, `{"message":"A JSON web token could not be decoded","documentation_url":"https://docs.github.com/rest"}`)
	}
	var id int
	if n, _ := fmt.Sscanf(req.URL.String(), "https://api.github.com/app/installations/%d/access_tokens", &id); n != 1 || id != 42 {
		return answer(404, `{"message":"Not Found","documentation_url":"https://docs.github.com/rest","status":"404"}`)
	}
	g.issued++
	return answer(201, fmt.Sprintf(`{"token":"ghs_%040d","expires_at":%q,"permissions":{"issues":"write"},"repository_selection":"all"}`,
		g.issued, time.Now().Add(time.Hour).UTC().Format(time.RFC3339)))
}

// wrong returns what GitHub would refuse.
func (g *github) wrong(token string) string {
	parts := strings.Split(token, ".")
	if len(parts) != 3 {
		return "no JWT"
	}
	var header struct{ Alg string }
	var claims struct {
		Iss      string
		Iat, Exp int64
	}
	for i, into := range []any{&header, &claims} {
		raw, err := base64.RawURLEncoding.DecodeString(parts[i])
		if err != nil || json.Unmarshal(raw, into) != nil {
			return "no JSON"
		}
	}
	signature, _ := base64.RawURLEncoding.DecodeString(parts[2])
	sum := sha256.Sum256([]byte(parts[0] + "." + parts[1]))
	now := time.Now().Unix()
	switch {
	case header.Alg != "RS256" || rsa.VerifyPKCS1v15(g.key, crypto.SHA256, sum[:], signature) != nil:
		return "not signed by the app"
	case claims.Iss != "Iv1.app":
		return "iss " + claims.Iss
	case claims.Iat > now-50, claims.Exp > now+600, claims.Exp <= now:
		return fmt.Sprint("iat and exp ", claims.Iat-now, claims.Exp-now)
	}
	return ""
}

// An installation has one token at a time, which is replaced in time, and what GitHub refuses is
// told without a login being asked for (C95).
func TestGitHubApp(t *testing.T) {
	key := testkit.NewKey(t, "RS256")
	synctest.Test(t, func(t *testing.T) {
		hub := &github{t: t, key: key.Public().(*rsa.PublicKey)}
		app := grants.GitHubApp{ClientID: "Iv1.app", Base: hub,
			Key: func(context.Context) (*clientauth.Key, error) { return &clientauth.Key{Signer: key}, nil }}
		cache, err := tokencache.New(new(tokencache.Memory), nil)
		must(t, err)
		pool, err := transport.NewPool(transport.PoolConfig{Source: transport.SourceConfig{Cache: cache, Refresher: app.Refresher()}})
		must(t, err)
		defer pool.Close(context.Background())
		for hour := range 3 {
			for range 10 {
				tok, err := pool.Source("42").Token(t.Context())
				must(t, err)
				if want := fmt.Sprintf("ghs_%040d", hour+1); string(tok.AccessToken) != want || time.Until(tok.Expiry) < 50*time.Minute {
					t.Fatalf("got %d characters, until %v", len(tok.AccessToken), tok.Expiry)
				}
			}
			time.Sleep(time.Hour)
		}
		for _, tt := range []struct {
			account string
			status  int
			body    string
			header  http.Header
			kind    transport.Kind
			says    string
		}{
			{"7", 0, "", nil, transport.ErrMisconfigured, "Not Found (HTTP 404); see on GitHub whether this app has an installation of that number, and whether it is suspended"},
			{"acme", 0, "", nil, transport.ErrMisconfigured, "number of an installation"},
			{"", 0, "", nil, transport.ErrMisconfigured, "number of an installation"},
			{"8", 401, `{"message":"A JSON web token could not be decoded"}`, nil, transport.ErrMisconfigured, "JSON web token"},
			{"9", 403, `{"message":"This installation has been suspended"}`, nil, transport.ErrMisconfigured, "suspended"},
			{"10", 403, `{"message":"API rate limit exceeded"}`, http.Header{"X-Ratelimit-Remaining": {"0"}}, transport.ErrUnavailable, "429"},
			{"11", 503, "<html>", nil, transport.ErrAmbiguous, "503"},
			{"12", 201, `{"permissions":{}}`, nil, transport.ErrAmbiguous, ""},
			{"13", 302, "", http.Header{"Location": {"https://else.example/"}}, transport.ErrMisconfigured, ""},
		} {
			hub.status, hub.body, hub.header = tt.status, tt.body, tt.header
			_, err := app.Refresher().Refresh(t.Context(), &tokencache.Record{Key: tokencache.Key{Account: tt.account}})
			if !errors.Is(err, tt.kind) || !strings.Contains(err.Error(), tt.says) || strings.Contains(err.Error(), "eyJ") {
				t.Errorf("installation %q: %v", tt.account, err)
			}
		}
	})
}

// A Base of a test, whose answers have no header, is answered like any other.
func TestGitHubWithoutAHeader(t *testing.T) {
	key := testkit.NewKey(t, "ES256")
	app := grants.GitHubApp{ClientID: "Iv1.app",
		Key: func(context.Context) (*clientauth.Key, error) { return &clientauth.Key{Signer: key}, nil },
		Base: testkit.RoundTripFunc(func(*http.Request) (*http.Response, error) {
			return &http.Response{StatusCode: http.StatusCreated, Body: io.NopCloser(strings.NewReader(`{"token":"ghs_1"}`))}, nil
		})}
	rec, err := app.Refresher().Refresh(t.Context(), &tokencache.Record{Key: tokencache.Key{Account: "42"}})
	if err != nil || rec.AccessToken != "ghs_1" {
		t.Errorf("%v, %v", rec, err)
	}
}
