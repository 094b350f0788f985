package realparts

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	atprotoprovider "github.com/stayauth/stayauth/testdata/atproto-provider"
	oidcprovider "github.com/stayauth/stayauth/testdata/oidc-provider"
)

// A Provider is a running authorization server, oidc-provider, which its authors have
// certified. Each refresh token works once, and a second use ends the login. It also
// serves the usual endpoints: authorization, device authorization, pushed
// authorization requests, introspection, revocation and discovery.
type Provider struct {
	Issuer string `json:"issuer"`
	API    string `json:"api"` // A protected URL; it answers who called as JSON.

	// UserInfo is one of the provider itself, which also takes tokens with the scope openid
	// that are bound to a key (RFC 9449).
	UserInfo string `json:"user_info"`

	// Public is a native client that may use any port of a loopback redirect, with
	// the path "/", "/cb" or "/callback". Confidential also has a secret, for
	// client_secret_basic, and may use client credentials.
	Public       Client `json:"public_client"`
	Confidential Client `json:"confidential_client"`

	t     testing.TB
	cmd   *exec.Cmd
	roots *x509.CertPool // nil: http
}

// A Client is registered at a Provider.
type Client struct {
	ID     string `json:"client_id"`
	Secret string `json:"client_secret"`
}

// A Login is what a provider hands out when a user logs in.
type Login struct {
	AccessToken  string `json:"access_token"`
	RefreshToken string `json:"refresh_token"`
	ExpiresIn    int    `json:"expires_in"` // Seconds.
	Scope        string `json:"scope"`
}

// Counts is what a Provider has seen since it started.
type Counts struct {
	OK     map[string]int `json:"ok"`     // Successful token requests by grant type.
	Errors map[string]int `json:"errors"` // Failed ones, by "code: reason".

	Reuses  int `json:"reuses"`  // A refresh token was presented after it had been spent.
	Revoked int `json:"revoked"` // Logins that the provider ended, for instance because of that.

	APICalls   int `json:"apiCalls"`   // Calls to API or UserInfo that were answered.
	APIRefused int `json:"apiRefused"` // Calls to them that were refused.

	Proofs         int `json:"proofs"`         // Proofs of possession (RFC 9449) that were presented.
	RepeatedProofs int `json:"repeatedProofs"` // Those whose jti had been presented before.
}

// OIDCProviderTLS starts one with https, whose certificate is of ca. It knows clients by their
// certificates too, if those are of ca or registered with it, at addresses of their own (RFC 8705).
// So is API.
func OIDCProviderTLS(t testing.TB, ca *CA, flags ...string) *Provider {
	t.Helper()
	cert, key := ca.Issue("127.0.0.1")
	files, err := json.Marshal(map[string]string{"cert": cert, "key": key, "ca": ca.File})
	if err != nil {
		t.Fatal(err)
	}
	p := OIDCProvider(t, append(flags, "--tls="+string(files))...)
	p.roots = ca.Pool()
	return p
}

// OIDCProvider starts an authorization server that ends with the test. The flags are
// those of testdata/oidc-provider/server.mjs, such as "--access-token-ttl=2".
func OIDCProvider(t testing.TB, flags ...string) *Provider {
	t.Helper()
	const what = "a certified authorization server"
	node, err := exec.LookPath("node")
	Require(t, what, err)
	modules, err := npmPackages("oidc-provider", oidcprovider.Files)
	Require(t, what, err)
	return startNode(t, node, modules, oidcprovider.Files, flags)
}

// AtprotoProvider starts the authorization server that Bluesky's users have, which ends with the
// test. All its tokens are bound to keys, and proofs need nonces. There is one client, Public,
// and what has to do with minting and ending logins is not there. The flags are those of
// testdata/atproto-provider/server.mjs.
func AtprotoProvider(t testing.TB, flags ...string) *Provider {
	t.Helper()
	const what = "the authorization server of atproto"
	modules, err := npmPackages("atproto-provider", atprotoprovider.Files)
	Require(t, what, err)
	arch := strings.Replace(runtime.GOARCH, "amd64", "x64", 1)
	node := filepath.Join(modules, "node_modules", "node-"+runtime.GOOS+"-"+arch, "bin", "node")
	_, err = os.Stat(node)
	Require(t, what, err)
	return startNode(t, node, modules, atprotoprovider.Files, flags)
}

// startNode starts the server.mjs among files.
func startNode(t testing.TB, node, modules string, files fs.FS, flags []string) *Provider {
	t.Helper()
	// The program itself runs from a copy, so that it is never older than its source.
	dir := t.TempDir()
	if err := os.CopyFS(dir, files); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(filepath.Join(modules, "node_modules"), filepath.Join(dir, "node_modules")); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(node, append([]string{filepath.Join(dir, "server.mjs")}, flags...)...)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("the authorization server said:\n%s", stderr.Bytes())
		}
	})
	start(t, cmd)

	// A server that cannot start exits, which ends this read.
	ready, err := bufio.NewReader(stdout).ReadBytes('\n')
	if err != nil {
		t.Fatalf("the authorization server did not start: %v", err)
	}
	p := &Provider{t: t, cmd: cmd}
	if err := json.Unmarshal(ready, p); err != nil {
		t.Fatalf("the authorization server's first line is %q: %v", ready, err)
	}
	return p
}

// Mint logs account in at client without a browser. An empty scope means
// "openid offline_access".
func (p *Provider) Mint(client Client, account, scope string) Login {
	p.t.Helper()
	form := url.Values{"client_id": {client.ID}, "account": {account}}
	if scope != "" {
		form.Set("scope", scope)
	}
	var l Login
	p.call(http.MethodPost, "/test/mint", form, &l)
	return l
}

// BoundClient is the flag for a public client with that id whose tokens are all bound to a key.
func BoundClient(id string) string {
	return `--clients=[{"client_id":"` + id + `","token_endpoint_auth_method":"none","dpop_bound_access_tokens":true}]`
}

// MintBound is Mint with tokens that are bound to a key, whose thumbprint is that of RFC 7638.
func (p *Provider) MintBound(client Client, account, thumbprint string) Login {
	p.t.Helper()
	var l Login
	p.call(http.MethodPost, "/test/mint", url.Values{"client_id": {client.ID}, "account": {account}, "jkt": {thumbprint}}, &l)
	return l
}

// ApproveDevice does what a user does who opens the verification page, enters
// userCode and agrees.
func (p *Provider) ApproveDevice(userCode, account string) {
	p.t.Helper()
	p.call(http.MethodPost, "/test/approve-device", url.Values{"user_code": {userCode}, "account": {account}}, nil)
}

// DenyDevice does what a user does who opens the verification page, enters userCode
// and refuses.
func (p *Provider) DenyDevice(userCode string) {
	p.t.Helper()
	p.call(http.MethodPost, "/test/approve-device", url.Values{"user_code": {userCode}, "deny": {"yes"}}, nil)
}

// Revoke ends the login that token was ever part of, as a user or an administrator
// can do at the provider.
func (p *Provider) Revoke(token string) {
	p.t.Helper()
	p.call(http.MethodPost, "/test/revoke", url.Values{"token": {token}}, nil)
}

// RevokeAccessToken makes API refuse accessToken from now on. The login goes on, which
// is what the provider's revocation endpoint does not offer.
func (p *Provider) RevokeAccessToken(accessToken string) {
	p.t.Helper()
	p.call(http.MethodPost, "/test/revoke-access-token", url.Values{"token": {accessToken}}, nil)
}

// Signal sends the provider a signal. One that was stopped goes on before the test ends.
func (p *Provider) Signal(s os.Signal) {
	p.t.Helper()
	if err := p.cmd.Process.Signal(s); err != nil {
		p.t.Fatal(err)
	}
}

// Counts returns what the provider has seen so far.
func (p *Provider) Counts() Counts {
	p.t.Helper()
	var c Counts
	p.call(http.MethodGet, "/test/counts", nil, &c)
	return c
}

// call uses one of the routes that exist for tests.
func (p *Provider) call(method, path string, form url.Values, answer any) {
	p.t.Helper()
	err := func() error {
		req, err := http.NewRequest(method, p.Issuer+path, bytes.NewBufferString(form.Encode()))
		if err != nil {
			return err
		}
		req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		resp, err := (&http.Client{Transport: &http.Transport{DisableKeepAlives: true, TLSClientConfig: &tls.Config{RootCAs: p.roots}}, Timeout: time.Minute}).Do(req)
		if err != nil {
			return err
		}
		defer resp.Body.Close()
		body, err := io.ReadAll(resp.Body)
		if err != nil {
			return err
		}
		if resp.StatusCode != http.StatusOK {
			return fmt.Errorf("HTTP %d: %s", resp.StatusCode, body)
		}
		if answer == nil {
			return nil
		}
		return json.Unmarshal(body, answer)
	}()
	if err != nil {
		p.t.Fatalf("%s: %v", path, err)
	}
}
