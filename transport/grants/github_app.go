package grants

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/stayauth/stayauth/transport"
	"github.com/stayauth/stayauth/transport/clientauth"
	"github.com/stayauth/stayauth/transport/endpoint"
	"github.com/stayauth/stayauth/transport/internal/statement"
)

// A GitHubApp obtains tokens for the installations of a GitHub App: in a transport.Pool, the
// account is the number of the installation. A token lives for an hour.
//
// See docs.github.com, "Generating an installation access token for a GitHub App".
type GitHubApp struct {
	// ClientID is that of the app, or its App ID. Required.
	ClientID string

	// Key returns the private key of the app, as GitHub makes it: clientauth.KeyFile reads
	// such files. Required.
	Key func(ctx context.Context) (*clientauth.Key, error)

	// API is the address of the API. Default: https://api.github.com. GitHub Enterprise
	// Server has it at https://HOST/api/v3.
	API string

	// Base sends the requests. Default: http.DefaultTransport.
	Base http.RoundTripper
}

// What GitHub wants of the statement: it is good for ten minutes at most, and was made a minute
// ago, because clocks differ.
const (
	githubLifetime = 9 * time.Minute
	githubEarlier  = time.Minute
)

// githubGrant names this grant in the cache: GitHub has its own request, which is no OAuth.
const githubGrant = "github_app_installation"

// Refresher returns what obtains the tokens, for SourceConfig.Refresher.
func (g GitHubApp) Refresher() transport.Refresher {
	api := strings.TrimSuffix(cmp.Or(g.API, "https://api.github.com"), "/")
	e := &endpoint.Endpoint{
		Issuer: api, TokenURL: api + "/app/installations", ClientID: g.ClientID,
		Base: &githubAPI{cmp.Or[http.RoundTripper](g.Base, http.DefaultTransport)},
	}
	turns := new(statement.Turns)
	r := e.GrantRefresher(githubGrant, nil, func(ctx context.Context, r endpoint.GrantRequest) (url.Values, error) {
		if g.Key == nil {
			return nil, statement.Misconfigured("GitHubApp.Key", "set it: clientauth.KeyFile returns such a function", nil)
		}
		if !isNumber(r.Key.Account) {
			return nil, statement.Misconfigured("GitHubApp", "use the number of an installation as the account, as in its address on GitHub", nil)
		}
		key := func() (*statement.Key, error) { k, err := g.Key(ctx); return (*statement.Key)(k), err }
		signed, err := turns.Make(ctx, "GitHubApp.Key", key, statement.Statement{
			Issuer: g.ClientID, Now: r.Now.Add(-githubEarlier), Lifetime: githubLifetime + githubEarlier})
		if err != nil {
			return nil, err
		}
		return url.Values{"assertion": {signed}, "installation": {r.Key.Account}}, nil
	})
	return struct {
		refused
		transport.Revoker
	}{refused{r, r.(transport.Prober), notInstalled}, r.(transport.Revoker)}
}

func notInstalled(e *transport.Error) {
	if e.Code == githubRefused {
		e.Remedy = "see on GitHub whether this app has an installation of that number, and whether it is suspended"
	}
}

// githubRefused stands for what GitHub says by a status: 403, suspended; 404, there is no such
// installation of this app; 422.
const githubRefused = "access_denied"

func isNumber(s string) bool { return s != "" && strings.Trim(s, "0123456789") == "" }

// githubAPI turns requests of RFC 6749 into those of GitHub's API, and its answers back.
type githubAPI struct{ base http.RoundTripper }

func (g *githubAPI) RoundTrip(req *http.Request) (*http.Response, error) {
	if req.Method != http.MethodPost {
		return g.base.RoundTrip(req)
	}
	body, err := io.ReadAll(req.Body)
	req.Body.Close()
	if err != nil {
		return nil, err
	}
	form, err := url.ParseQuery(string(body))
	if err != nil {
		return nil, err
	}
	out := req.Clone(req.Context())
	out.URL = req.URL.JoinPath(form.Get("installation"), "access_tokens")
	out.Header = http.Header{
		"Accept":               {"application/vnd.github+json"},
		"Authorization":        {"Bearer " + form.Get("assertion")},
		"X-Github-Api-Version": {"2022-11-28"},
	}
	out.Body, out.GetBody, out.ContentLength = http.NoBody, nil, 0
	resp, err := g.base.RoundTrip(out)
	if err != nil {
		return nil, err
	}
	if resp.Header == nil { // as from a Base that a test has
		resp.Header = http.Header{}
	}
	return translated(resp)
}

// dateOf returns the time of an answer by the clock of whoever made it, if that is known.
func dateOf(resp *http.Response) time.Time {
	if date, err := http.ParseTime(resp.Header.Get("Date")); err == nil {
		return date
	}
	return time.Now()
}

// maxGitHub bounds what is read of an answer.
const maxGitHub = 1 << 20

// translated returns the answer of RFC 6749 section 5 that says the same.
func translated(resp *http.Response) (*http.Response, error) {
	if resp.StatusCode == http.StatusForbidden && (resp.Header.Get("Retry-After") != "" || resp.Header.Get("X-Ratelimit-Remaining") == "0") {
		resp.StatusCode = http.StatusTooManyRequests // GitHub has two limits, and says so in this way.
	}
	if resp.StatusCode/100 == 5 || resp.StatusCode == http.StatusTooManyRequests {
		return resp, nil // That is understood as it is.
	}
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxGitHub))
	resp.Body.Close()
	if err != nil {
		return nil, errors.New("the answer of GitHub was cut")
	}
	var answer struct {
		Token   string    `json:"token"`
		Expires time.Time `json:"expires_at"`
		Message string    `json:"message"`
	}
	said := map[string]any{}
	if json.Unmarshal(body, &answer) == nil {
		switch {
		case resp.StatusCode == http.StatusCreated && answer.Token != "":
			resp.StatusCode = http.StatusOK
			said["access_token"], said["token_type"] = answer.Token, "Bearer"
			if !answer.Expires.IsZero() {
				said["expires_in"] = int64(answer.Expires.Sub(dateOf(resp)) / time.Second)
			}
		case resp.StatusCode == http.StatusUnauthorized:
			said["error"], said["error_description"] = "invalid_client", answer.Message
		case resp.StatusCode/100 == 4:
			said["error"], said["error_description"] = githubRefused, answer.Message
		}
		if len(said) > 0 {
			body, _ = json.Marshal(said) // Strings and numbers always can be.
		}
	}
	resp.Header.Set("Content-Type", "application/json")
	resp.Header.Del("Content-Length")
	resp.Body, resp.ContentLength = io.NopCloser(bytes.NewReader(body)), int64(len(body))
	return resp, nil
}
