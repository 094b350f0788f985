package login_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"html"
	"io"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"regexp"
	"strings"
	"testing"
	"time"

	"golang.org/x/oauth2"

	"github.com/stayauth/stayauth/testdata/realparts"
	"github.com/stayauth/stayauth/tokencache"
	"github.com/stayauth/stayauth/transport"
	"github.com/stayauth/stayauth/transport/clientauth"
	"github.com/stayauth/stayauth/transport/endpoint"
	"github.com/stayauth/stayauth/transport/grants"
	"github.com/stayauth/stayauth/transport/internal/testkit"
	"github.com/stayauth/stayauth/transport/login"
	"github.com/stayauth/stayauth/transport/provider"
)

// keycloakTokenLife is in seconds.
const keycloakTokenLife = 6

// TestKeycloak is what is done with a real Keycloak, whose realms are as strict as they
// can be: a refresh token works once. All is done with the preset.
func TestKeycloak(t *testing.T) {
	server := realparts.StartKeycloak(t)
	// Each test has a realm of its own.
	for _, tt := range []struct {
		name string
		test func(*testing.T, *keycloakWorld)
	}{
		{"preset", keycloakPreset},
		{"browser", keycloakBrowser},
		{"private keys", keycloakPrivateKeys},
		{"step-up", keycloakStepUp},
		{"certificates", keycloakCertificates},
		{"rotation", keycloakRotation},
		{"administrator ends the sessions", keycloakAdminLogout},
		{"realm is disabled for a while", keycloakRealmDisabled},
		{"restart", func(t *testing.T, w *keycloakWorld) { keycloakOutage(t, w, server.Stop) }},
		{"crash", func(t *testing.T, w *keycloakWorld) { keycloakOutage(t, w, server.Crash) }},
	} {
		t.Run(tt.name, func(t *testing.T) {
			realm := server.NewRealm(t, "staff", map[string]any{"accessTokenLifespan": keycloakTokenLife})
			defer realm.Delete()
			cache, err := tokencache.New(new(tokencache.Memory), nil)
			if err != nil {
				t.Fatal(err)
			}
			w := &keycloakWorld{Realm: realm, provider: provider.Keycloak(server.URL(), realm.Name), cache: cache}
			w.use(t, realm.Confidential)
			tt.test(t, w)
			if c := realm.Counts(); c.Reuses != 0 {
				t.Errorf("a spent refresh token was presented: %+v", c)
			}
		})
	}
}

// A keycloakWorld is a realm and a service that has logins there.
type keycloakWorld struct {
	*realparts.Realm
	provider *provider.Provider
	endpoint *endpoint.Endpoint
	cache    *tokencache.Cache
	pool     *transport.Pool
	client   *http.Client
}

// use makes the service a client of the realm.
func (w *keycloakWorld) use(t *testing.T, client realparts.Client) {
	t.Helper()
	w.endpoint = w.provider.Endpoint(client.ID, tokencache.Secret(client.Secret), "openid")
	var err error
	if w.pool, err = transport.NewPool(transport.PoolConfig{Source: transport.SourceConfig{Cache: w.cache, Refresher: w.endpoint}}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { w.pool.Close(context.Background()) })
	rt, err := transport.New(transport.Config{Pool: w.pool, Origins: w.provider.Origins})
	if err != nil {
		t.Fatal(err)
	}
	w.client = &http.Client{Transport: rt}
}

// mint logs a new user in.
func (w *keycloakWorld) mint(t *testing.T, user string) {
	t.Helper()
	w.AddUser(user)
	w.login(t, user)
}

func (w *keycloakWorld) login(t *testing.T, user string) {
	t.Helper()
	l := w.Mint(w.Confidential, user, "")
	rec := endpoint.FromOAuth2(&oauth2.Token{AccessToken: l.AccessToken, RefreshToken: l.RefreshToken,
		Expiry: time.Now().Add(time.Duration(l.ExpiresIn) * time.Second)})
	if err := w.pool.Source(user).Login(t.Context(), rec); err != nil {
		t.Fatal(err)
	}
}

// call asks the API who the user is.
func (w *keycloakWorld) call(ctx context.Context, user string) error {
	req, err := http.NewRequestWithContext(transport.WithAccount(ctx, user), http.MethodGet, w.API, nil)
	if err != nil {
		return err
	}
	resp, err := w.client.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		return err
	}
	var me struct {
		Name string `json:"preferred_username"`
	}
	if err := json.Unmarshal(body, &me); resp.StatusCode != http.StatusOK || err != nil || me.Name != user {
		return fmt.Errorf("the API answers HTTP %d for %q, %v", resp.StatusCode, me.Name, err)
	}
	return nil
}

// until calls f until it returns true.
func until(t *testing.T, what string, f func() bool) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); !f(); time.Sleep(100 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("waited for a minute: %s", what)
		}
	}
}

// The preset says what the server's own metadata says.
func keycloakPreset(t *testing.T, w *keycloakWorld) {
	found, err := provider.Discover(t.Context(), w.Issuer)
	if err != nil {
		t.Fatal(err)
	}
	p := w.provider
	for _, tt := range []struct{ field, preset, found string }{
		{"Issuer", p.Issuer, found.Issuer},
		{"AuthURL", p.AuthURL, found.AuthURL},
		{"TokenURL", p.TokenURL, found.TokenURL},
		{"DeviceAuthURL", p.DeviceAuthURL, found.DeviceAuthURL},
		{"RevocationURL", p.RevocationURL, found.RevocationURL},
		{"PARURL", p.PARURL, found.PARURL},
		{"SendsIss", fmt.Sprint(p.SendsIss), fmt.Sprint(found.SendsIss)},
		{"AuthStyle", fmt.Sprint(p.AuthStyle), fmt.Sprint(found.AuthStyle)},
	} {
		if tt.preset != tt.found {
			t.Errorf("%s: %s in the preset, %s in the metadata", tt.field, tt.preset, tt.found)
		}
	}
}

// A user enters name and password on the server's own page, for each kind of client and
// request.
func keycloakBrowser(t *testing.T, w *keycloakWorld) {
	w.AddUser("alice")
	browser := realparts.StartChromium(t)
	for _, tt := range []struct {
		name   string
		client realparts.Client
		par    bool
	}{
		{"public", w.Public, false},
		{"confidential", w.Confidential, false},
		{"pushed request", w.Confidential, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w.use(t, tt.client)
			keycloakLogin(t, w, browser, tt.par)
		})
	}
}

// keycloakLogin logs alice in with a browser of her own, uses the login until it was renewed,
// and ends it.
func keycloakLogin(t *testing.T, w *keycloakWorld, browser *realparts.Chromium, par bool) {
	profile := browser.NewProfile(t)
	done := make(chan struct{})
	rec, err := login.Loopback(t.Context(), login.Config{Provider: w.provider, Endpoint: w.endpoint, PAR: par, Out: io.Discard,
		Open: func(_ context.Context, url string) error {
			go func() {
				defer close(done)
				tab := profile.Open(url)
				tab.WaitFor("Sign in to your account")
				tab.Fill("#username", "alice")
				tab.Fill("#password", "alice")
				tab.Click("#kc-login")
				tab.WaitFor("You are logged in")
			}()
			return nil
		}})
	if err != nil {
		t.Fatal(err)
	}
	<-done
	keycloakLife(t, w, rec)
}

// keycloakLife uses the login of alice until it was renewed, and ends it.
func keycloakLife(t *testing.T, w *keycloakWorld, rec *tokencache.Record) {
	if name := login.AccountOf(rec).Name; name != "alice" {
		t.Errorf("%q has logged in", name)
	}
	if err := w.pool.Source("alice").Login(t.Context(), rec); err != nil {
		t.Fatal(err)
	}
	until(t, "a second token", func() bool {
		if err := w.call(t.Context(), "alice"); err != nil {
			t.Error(err)
		}
		st, err := w.pool.Source("alice").Status(t.Context())
		return err != nil || st.Generation > 1
	})
	last, _, err := w.cache.Load(t.Context(), tokencache.Key{Issuer: w.Issuer, ClientID: w.endpoint.ClientID, Account: "alice"})
	if err != nil {
		t.Fatal(err)
	}
	if err := w.pool.Source("alice").Logout(t.Context()); err != nil {
		t.Error(err)
	}
	if _, err := w.endpoint.Refresh(t.Context(), last); !errors.Is(err, transport.ErrLoginRequired) {
		t.Errorf("after the revocation: %v", err)
	}
}

// keycloakForms does what alice does in a browser, from an address on: she enters name and
// password, and allows what is asked for.
func keycloakForms(base http.RoundTripper, address string) error {
	jar, err := cookiejar.New(nil)
	if err != nil {
		return err
	}
	return keycloakFormsIn(jar, base, address)
}

// keycloakFormsIn is keycloakForms in a browser that alice has used before.
func keycloakFormsIn(jar http.CookieJar, base http.RoundTripper, address string) error {
	client := &http.Client{Jar: jar, Timeout: time.Minute, Transport: roundTripper(func(req *http.Request) (*http.Response, error) {
		resp, err := base.RoundTrip(req)
		if err == nil { // A browser takes loopback for secure, and this jar does not.
			for i, c := range resp.Header["Set-Cookie"] {
				resp.Header["Set-Cookie"][i] = strings.ReplaceAll(c, ";Secure", "")
			}
		}
		return resp, err
	})}
	resp, err := client.Get(address)
	for range 5 {
		if err != nil {
			return err
		}
		page, cut := io.ReadAll(resp.Body)
		resp.Body.Close()
		if cut != nil {
			return cut
		}
		action := regexp.MustCompile(`<form [^>]*action="([^"]+)"`).FindSubmatch(page)
		if action == nil {
			return nil
		}
		form := url.Values{"username": {"alice"}, "password": {"alice"}, "accept": {"Yes"}}
		for _, hidden := range regexp.MustCompile(`<input type="hidden"[^>]* name="([^"]+)" value="([^"]*)"`).FindAllSubmatch(page, -1) {
			form.Set(string(hidden[1]), html.UnescapeString(string(hidden[2])))
		}
		next, wrong := resp.Request.URL.Parse(html.UnescapeString(string(action[1])))
		if wrong != nil {
			return wrong
		}
		resp, err = client.PostForm(next.String(), form)
	}
	return errors.New("the pages do not end")
}

type roundTripper func(*http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(req *http.Request) (*http.Response, error) { return f(req) }

// The client proves who it is by a key, with each algorithm: in logins by a code, by a pushed
// request and by a device, which are renewed and revoked, for itself, and to exchange tokens. Each
// request has a statement that the server has not seen, since it refuses any other.
func keycloakPrivateKeys(t *testing.T, w *keycloakWorld) {
	w.AddUser("alice")
	t.Run("algorithms", func(t *testing.T) {
		for _, alg := range []string{"ES256", "PS256", "RS256", "EdDSA"} {
			key, client := testkit.NewKey(t, alg), *w
			client.use(t, w.AddKeyClient(alg, alg, testkit.JWK(key, alg, "k1")))
			client.endpoint.ClientAuth = &clientauth.PrivateKey{Key: func(context.Context) (*clientauth.Key, error) {
				return &clientauth.Key{Signer: key, Algorithm: alg, ID: "k1"}, nil
			}}
			t.Run(alg, func(t *testing.T) {
				t.Parallel()
				keycloakPrivateKey(t, &client)
			})
		}
	})
}

func keycloakPrivateKey(t *testing.T, w *keycloakWorld) {
	visit := func(address string) {
		if err := keycloakForms(http.DefaultTransport, address); err != nil {
			t.Error(err)
		}
	}
	cfg := login.Config{Provider: w.provider, Endpoint: w.endpoint, Out: io.Discard,
		Open: func(_ context.Context, address string) error { go visit(address); return nil },
		OnPrompt: func(p login.Prompt) {
			if p.UserCode != "" {
				go visit(p.CompleteURL)
			}
		}}
	pushed := cfg
	pushed.PAR = true
	for _, way := range []struct {
		name string
		log  func() (*tokencache.Record, error)
	}{
		{"code", func() (*tokencache.Record, error) { return login.Loopback(t.Context(), cfg) }},
		{"pushed request", func() (*tokencache.Record, error) { return login.Loopback(t.Context(), pushed) }},
		{"device", func() (*tokencache.Record, error) { return login.Device(t.Context(), cfg) }},
	} {
		rec, err := way.log()
		if err != nil {
			t.Fatalf("%s: %v", way.name, err)
		}
		keycloakLife(t, w, rec)
	}
	program, err := w.endpoint.ClientCredentials().Refresh(t.Context(), new(tokencache.Record))
	if err != nil {
		t.Fatalf("client credentials: %v", err)
	}
	exchanged, err := grants.TokenExchange(w.endpoint, grants.Exchange{Type: grants.AccessToken,
		Subject: func(context.Context, tokencache.Key) (grants.Subject, error) {
			return grants.Subject{Token: program.AccessToken}, nil
		}}).Refresh(t.Context(), new(tokencache.Record))
	if err != nil || exchanged.AccessToken == "" || exchanged.AccessToken == program.AccessToken {
		t.Errorf("token exchange: %v", err)
	}

	// A statement that comes twice is refused, and the first may have been good.
	w.endpoint.Base = testkit.Twice(http.DefaultTransport)
	_, err = w.endpoint.ClientCredentials().Refresh(t.Context(), new(tokencache.Record))
	if told, ok := errors.AsType[*transport.Error](err); !ok || told.Kind != transport.ErrAmbiguous || told.Code != "invalid_client" {
		t.Errorf("sent twice: %v", err)
	}
}

// Two users call on, and what they have is renewed in time. Each renewal spends one token.
func keycloakRotation(t *testing.T, w *keycloakWorld) {
	users := []string{"alice", "bob"}
	for _, user := range users {
		w.mint(t, user)
	}
	generations := func() (sum, least uint64) {
		least = 1 << 63
		for _, user := range users {
			if err := w.call(t.Context(), user); err != nil {
				t.Error(err)
			}
			st, err := w.pool.Source(user).Status(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			sum, least = sum+st.Generation, min(least, st.Generation)
		}
		return sum, least
	}
	until(t, "three tokens for each user", func() bool { _, least := generations(); return least >= 3 })
	if err := w.pool.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	var sum uint64
	for _, user := range users {
		rec, _, err := w.cache.Load(t.Context(), tokencache.Key{Issuer: w.Issuer, ClientID: w.endpoint.ClientID, Account: user})
		if err != nil {
			t.Fatal(err)
		}
		sum += rec.Generation - 1
	}
	if c := w.Counts(); c.OK["refresh_token"] != int(sum) || len(c.Errors) > 0 {
		t.Errorf("%d renewals are stored, and the server counted %+v", sum, c)
	}
}

// A user whose sessions an administrator has ended has to log in, is told so once the
// token is over, and can then go on.
func keycloakAdminLogout(t *testing.T, w *keycloakWorld) {
	w.mint(t, "alice")
	w.mint(t, "bob")
	w.Logout("alice")
	var err error
	until(t, "the login has ended", func() bool { err = w.call(t.Context(), "alice"); return errors.Is(err, transport.ErrLoginRequired) })
	if e, ok := errors.AsType[*transport.Error](err); !ok || e.Code != "invalid_grant" || e.ReuseSuspected {
		t.Errorf("%v", err)
	}
	if err := w.call(t.Context(), "bob"); err != nil {
		t.Errorf("another user: %v", err)
	}
	w.login(t, "alice")
	if err := w.call(t.Context(), "alice"); err != nil {
		t.Errorf("after the next login: %v", err)
	}
}

// A realm that is disabled and enabled again ends no login.
func keycloakRealmDisabled(t *testing.T, w *keycloakWorld) {
	w.mint(t, "alice")
	w.Set(map[string]any{"enabled": false})
	var err error
	until(t, "the token is over, and not only for the API", func() bool {
		err = w.call(t.Context(), "alice")
		_, ok := errors.AsType[*transport.Error](err)
		return ok
	})
	if !errors.Is(err, transport.ErrMisconfigured) {
		t.Errorf("while the realm is disabled: %v", err)
	}
	w.Set(map[string]any{"enabled": true})
	w.use(t, w.Confidential) // The next replica. This one waits for minutes before it asks again.
	if err := w.call(t.Context(), "alice"); err != nil {
		t.Errorf("after the realm was enabled: %v", err)
	}
}

// No login ends because the server does, in the orderly way or not. While it is away,
// callers are told when to come back.
func keycloakOutage(t *testing.T, w *keycloakWorld, stop func()) {
	var users []string
	for i := range 10 {
		users = append(users, fmt.Sprint("user", i))
		w.mint(t, users[i])
	}
	stop()
	for _, user := range users {
		source := w.pool.Source(user)
		var err error
		until(t, "the token is over", func() bool { _, err = source.Token(t.Context()); return err != nil })
		if e, ok := errors.AsType[*transport.Error](err); !ok || !errors.Is(err, transport.ErrUnavailable) || e.RetryAt.IsZero() {
			t.Errorf("%s, during the outage: %v", user, err)
		}
	}
	w.Start()
	for _, user := range users {
		var err error
		until(t, "the login works again", func() bool {
			err = w.call(t.Context(), user)
			return err == nil || errors.Is(err, transport.ErrLoginRequired)
		})
		if err != nil {
			t.Errorf("%s, after the outage: %v", user, err)
		}
	}
	if c := w.Counts(); len(c.Errors) > 0 {
		t.Errorf("the server counted %+v", c)
	}
}
