package faultstest

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"html"
	"io"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stayauth/stayauth/testdata/realparts"
	"github.com/stayauth/stayauth/tokencache"
	"github.com/stayauth/stayauth/transport"
	"github.com/stayauth/stayauth/transport/endpoint"
	"github.com/stayauth/stayauth/transport/login"
	discovery "github.com/stayauth/stayauth/transport/provider"
	"golang.org/x/oauth2"
)

// clockOff is how far the clocks of some of these servers are off.
const clockOff = 5 * time.Minute

// The whole life of logins that are bound to keys (RFC 9449), at servers that nobody here wrote:
// one that insists on nonces, one that has none and a narrow idea of the time, and the one of
// Bluesky's users, which has both and forgives nothing. With the clock of this machine right and
// wrong, no proof is sent twice, no refresh token either, and no login is lost.
func TestCertifiedProvidersBound(t *testing.T) {
	t.Parallel()
	const ttl = "--access-token-ttl=3"
	t.Run("oidc-provider", func(t *testing.T) {
		t.Parallel()
		p := realparts.OIDCProvider(t, ttl, "--dpop-nonce", realparts.BoundClient("bound"))
		l := newBoundLife(t, p.Issuer, p.UserInfo, "bound")
		for _, par := range []bool{false, true} {
			l.live(l.loopback(par, "openid", "offline_access"))
		}
		l.wantCounts(p.Counts())
	})
	for _, off := range []time.Duration{clockOff, -clockOff} {
		t.Run(fmt.Sprint("oidc-provider with its clock off by ", off), func(t *testing.T) {
			t.Parallel()
			p := realparts.OIDCProvider(t, ttl, "--dpop-nonce", realparts.BoundClient("bound"), fmt.Sprintf("--clock-ahead=%d", int(off.Seconds())))
			l := newBoundLife(t, p.Issuer, p.UserInfo, "bound")
			bound, err := l.endpoint.Bind(t.Context(), "", "")
			if err != nil {
				t.Fatal(err)
			}
			private, thumbprint := bound.Proof()
			tokens := p.MintBound(realparts.Client{ID: "bound"}, account, thumbprint)
			rec := &tokencache.Record{AccessToken: tokencache.Secret(tokens.AccessToken), TokenType: "DPoP", RefreshToken: tokencache.Secret(tokens.RefreshToken),
				ObtainedAt: time.Now(), Expiry: time.Now().Add(time.Duration(tokens.ExpiresIn) * time.Second), TokenURL: l.endpoint.TokenURL}
			rec.Bind(private, thumbprint)
			l.live(rec)
			l.wantCounts(p.Counts())
		})
	}
	for _, off := range []time.Duration{0, -clockOff, clockOff} {
		t.Run(fmt.Sprint("atproto with its clock off by ", off), func(t *testing.T) {
			t.Parallel()
			p := realparts.AtprotoProvider(t, ttl, "--nonce-ttl=3", fmt.Sprintf("--clock-ahead=%d", int(off.Seconds())))
			l := newBoundLife(t, p.Issuer, p.API, p.Public.ID)
			l.live(l.loopback(false, "atproto")) // The metadata asks for PAR.
			l.wantCounts(p.Counts())
		})
	}
	t.Run("Keycloak with its clock off", func(t *testing.T) {
		t.Parallel()
		k := realparts.StartKeycloakAhead(t, clockOff)
		realm := k.NewRealm(t, "bound", map[string]any{"accessTokenLifespan": 3})
		client := realm.AddBoundClient("bound")
		realm.AddUser(account)
		front := newFront(t, k.URL(), clockOff)
		l := newBoundLife(t, strings.Replace(realm.Issuer, k.URL(), front.URL, 1), strings.Replace(realm.API, k.URL(), front.URL, 1), client.ID)
		l.live(l.exchange("openid offline_access"))
		// As programs do, but without an ID token: with such a clock none is asked for.
		rec := l.loopback(false)
		if next, err := l.endpoint.Refresh(t.Context(), rec); err != nil || next.RefreshToken == rec.RefreshToken {
			t.Errorf("refresh: %v", err)
		}
		c := realm.Counts()
		c.Proofs, c.RepeatedProofs = front.counted()
		l.wantCounts(c)
	})
}

// A boundLife is the life of logins of one public client.
type boundLife struct {
	t        *testing.T
	provider *discovery.Provider
	endpoint *endpoint.Endpoint
	plan     plan
}

func newBoundLife(t *testing.T, issuer, api, clientID string) *boundLife {
	t.Helper()
	p, err := discovery.Discover(t.Context(), issuer)
	if err != nil {
		t.Fatal(err)
	}
	origin, err := url.Parse(api)
	if err != nil {
		t.Fatal(err)
	}
	l := &boundLife{t: t, provider: p, endpoint: p.Endpoint(clientID, "")}
	l.endpoint.DPoP = &endpoint.DPoP{}
	l.plan = plan{TokenURL: p.TokenURL, API: api, Origin: origin.Scheme + "://" + origin.Host, Client: client{ID: clientID, Bound: true}, TTL: 3 * time.Second, Lead: 1500 * time.Millisecond}
	return l
}

// loopback logs in with a browser.
func (l *boundLife) loopback(par bool, scopes ...string) *tokencache.Record {
	l.t.Helper()
	e := l.provider.Endpoint(l.plan.Client.ID, "", scopes...)
	e.DPoP = &endpoint.DPoP{}
	var browser sync.WaitGroup
	defer browser.Wait()
	rec, err := login.Loopback(l.t.Context(), login.Config{Provider: l.provider, Endpoint: e, PAR: par, Out: io.Discard, Open: func(_ context.Context, address string) error {
		browser.Go(func() { browse(l.t, address) })
		return nil
	}})
	if err != nil {
		l.t.Fatal(err)
	}
	if _, thumbprint := rec.Proof(); thumbprint == "" {
		l.t.Error("the login is not bound to a key")
	}
	return rec
}

var form = regexp.MustCompile(`<form[^>]* action="([^"]*)"`)

// nobody is a redirect address at which nobody listens.
const nobody = "http://127.0.0.1:54321/cb"

// browse opens an address, and fills in a form with name and password if there is one. It returns
// the code with which it is sent to nobody.
func browse(t *testing.T, address string) (code string) {
	jar, err := cookiejar.New(nil)
	if err != nil {
		t.Error(err)
		return ""
	}
	browser := &http.Client{Jar: jar, CheckRedirect: func(req *http.Request, _ []*http.Request) error {
		if strings.HasPrefix(req.URL.String(), nobody) {
			code = req.URL.Query().Get("code")
			return http.ErrUseLastResponse
		}
		return nil
	}}
	resp, err := browser.Get(address)
	if err != nil {
		t.Error(err)
		return ""
	}
	page, _ := io.ReadAll(resp.Body)
	resp.Body.Close()
	if found := form.FindSubmatch(page); found != nil {
		if resp, err = browser.PostForm(html.UnescapeString(string(found[1])), url.Values{"username": {account}, "password": {account}}); err != nil {
			t.Error(err)
			return ""
		}
		resp.Body.Close()
	}
	if resp.StatusCode != http.StatusOK && code == "" {
		t.Errorf("the browser ends with %s at %s", resp.Status, resp.Request.URL.Path)
	}
	return code
}

// exchange logs in with an authorization request that is made by hand.
func (l *boundLife) exchange(scope string) *tokencache.Record {
	l.t.Helper()
	bound, err := l.endpoint.Bind(l.t.Context(), "", "")
	if err != nil {
		l.t.Fatal(err)
	}
	_, thumbprint := bound.Proof()
	verifier := oauth2.GenerateVerifier()
	code := browse(l.t, l.provider.AuthURL+"?"+url.Values{"response_type": {"code"}, "client_id": {l.plan.Client.ID}, "redirect_uri": {nobody}, "scope": {scope},
		"code_challenge": {oauth2.S256ChallengeFromVerifier(verifier)}, "code_challenge_method": {"S256"}, "dpop_jkt": {thumbprint}}.Encode())
	rec, err := bound.Exchange(l.t.Context(), code, verifier, nobody)
	if err != nil {
		l.t.Fatal(err)
	}
	return rec
}

// live goes through the life of a login: ten rotations, a restart, four processes at once, and
// the end.
func (l *boundLife) live(rec *tokencache.Record) {
	t := l.t
	t.Helper()
	plan := l.plan
	plan.Dir = t.TempDir()
	cache, err := plan.cache()
	if err != nil {
		t.Fatal(err)
	}
	var mu sync.Mutex
	calls := 0
	hear := func(r report) {
		mu.Lock()
		defer mu.Unlock()
		calls += r.Calls
		if r.Failed+r.Fatal != "" {
			t.Errorf("a process said: %s%s", r.Failed, r.Fatal)
		}
	}
	source := func(hasty bool) *transport.Source {
		plan := plan
		plan.Hasty = hasty
		s, _, err := plan.source(hear)
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	stored := func() *tokencache.Record {
		r, _, err := cache.Load(t.Context(), plan.key())
		if err != nil {
			t.Fatal(err)
		}
		return r
	}

	s := source(true)
	rec.Expiry = rec.ObtainedAt
	if err := s.Login(t.Context(), rec); err != nil {
		t.Fatal(err)
	}
	_, thumbprint := rec.Proof()
	for range 10 {
		if _, err := s.Token(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.Close(t.Context()); err != nil {
		t.Error(err)
	}
	if r := stored(); r.Generation < 10 {
		t.Errorf("%d rotations", r.Generation)
	}

	// Restart.
	c := caller{plan: plan, tell: hear}
	hear(c.call())
	if err := c.close(); err != nil {
		t.Error(err)
	}

	var processes [4]process
	before, begun := stored().Generation, time.Now()
	for i := range processes {
		if err := processes[i].start(plan, hear); err != nil {
			t.Fatal(err)
		}
	}
	time.Sleep(2 * plan.TTL)
	for i := range processes {
		if err := processes[i].end(); err != nil {
			t.Error(err)
		}
	}
	last := stored()
	// However many there are, a login is renewed once in the life of a token, less the lead; and
	// sooner if the server, which counts whole seconds, has rejected the token.
	if n, most := last.Generation-before, uint64(time.Since(begun)/time.Second)+1; n < 2 || n > most || calls < len(processes) {
		t.Errorf("four processes: %d calls, %d rotations, want 2 to %d", calls, n, most)
	}
	if _, of := last.Proof(); of != thumbprint || thumbprint == "" {
		t.Errorf("the login is bound to key %q, and was to %q", of, thumbprint)
	}

	// The end, of which the provider is told.
	if err := l.endpoint.Revoke(t.Context(), last); err != nil {
		t.Errorf("revocation: %v", err)
	}
	s = source(true)
	last.Expiry = last.ObtainedAt
	if err := s.Login(t.Context(), last); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Token(t.Context()); !errors.Is(err, transport.ErrLoginRequired) {
		t.Errorf("after the login was revoked: %v", err)
	}
}

func (l *boundLife) wantCounts(c realparts.Counts) {
	l.t.Helper()
	l.t.Logf("%d proofs; errors: %v", c.Proofs, c.Errors)
	if c.Reuses != 0 || c.RepeatedProofs != 0 || c.Proofs < 20 {
		l.t.Errorf("%d refresh tokens and %d of %d proofs were presented twice", c.Reuses, c.RepeatedProofs, c.Proofs)
	}
}

// A front is what stands in front of a Keycloak, and says what time it is: Keycloak does not. It
// counts proofs.
type front struct {
	*httptest.Server
	mu       sync.Mutex
	proofs   int
	repeated int
	seen     map[string]bool
}

func newFront(t *testing.T, target string, ahead time.Duration) *front {
	to, err := url.Parse(target)
	if err != nil {
		t.Fatal(err)
	}
	f := &front{seen: make(map[string]bool)}
	proxy := &httputil.ReverseProxy{
		Rewrite: func(r *httputil.ProxyRequest) {
			r.SetURL(to)
			r.Out.Host = r.In.Host // which the proofs name
		},
		ModifyResponse: func(resp *http.Response) error {
			resp.Header.Set("Date", time.Now().Add(ahead).UTC().Format(http.TimeFormat))
			return nil
		},
	}
	f.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		f.count(r.Header.Get("DPoP"))
		proxy.ServeHTTP(w, r)
	}))
	t.Cleanup(f.Close)
	return f
}

func (f *front) count(proof string) {
	parts := strings.Split(proof, ".")
	if len(parts) != 3 {
		return
	}
	raw, _ := base64.RawURLEncoding.DecodeString(parts[1])
	var claims struct{ JTI string }
	json.Unmarshal(raw, &claims) // If that fails, so does the request.
	f.mu.Lock()
	defer f.mu.Unlock()
	f.proofs++
	if f.seen[claims.JTI] {
		f.repeated++
	}
	f.seen[claims.JTI] = true
}

func (f *front) counted() (proofs, repeated int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.proofs, f.repeated
}
