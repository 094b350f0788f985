package migrate

import (
	"context"
	"encoding/json"
	"errors"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/oauth2"

	"github.com/stayauth/stayauth/tokencache"
	"github.com/stayauth/stayauth/transport"
	"github.com/stayauth/stayauth/transport/endpoint"
	"github.com/stayauth/stayauth/transport/oauthtest"
)

// A world has a provider that does not forgive, and a program whose logins move.
type world struct {
	*testing.T
	srv   *oauthtest.Server
	cache *tokencache.Cache
	path  string // of the old program's file
}

func newWorld(t *testing.T) *world {
	t.Helper()
	srv := oauthtest.New(oauthtest.Config{Policy: oauthtest.StrictFamily})
	t.Cleanup(srv.Close)
	cache, err := tokencache.New(new(tokencache.Memory), nil)
	if err != nil {
		t.Fatal(err)
	}
	return &world{t, srv, cache, filepath.Join(t.TempDir(), "token.json")}
}

func (w *world) endpoint() *endpoint.Endpoint {
	return &endpoint.Endpoint{TokenURL: w.srv.TokenURL(), Base: w.srv.RoundTripper(),
		ClientID: w.srv.ClientID(), ClientSecret: tokencache.Secret(w.srv.ClientSecret()), AuthStyle: oauth2.AuthStyleInHeader}
}

// before is what programs did before: x/oauth2 refreshes, and they store what it has got.
func (w *world) before(tok *oauth2.Token) *oauth2.Token {
	w.Helper()
	ctx := context.WithValue(w.Context(), oauth2.HTTPClient, &http.Client{Transport: w.srv.RoundTripper()})
	conf := oauth2.Config{ClientID: w.srv.ClientID(), ClientSecret: w.srv.ClientSecret(),
		Endpoint: oauth2.Endpoint{TokenURL: w.srv.TokenURL(), AuthStyle: oauth2.AuthStyleInHeader}}
	tok, err := conf.TokenSource(ctx, tok).Token()
	if err != nil {
		w.Fatal(err)
	}
	w.write(tok)
	return tok
}

func (w *world) write(tok *oauth2.Token) {
	w.Helper()
	data, err := json.Marshal(tok)
	if err == nil {
		err = os.WriteFile(w.path, data, 0o600)
	}
	w.check(err)
	w.touch()
}

// touch makes the file one of now, which is simulated.
func (w *world) touch() {
	w.Helper()
	w.check(os.Chtimes(w.path, time.Time{}, time.Now()))
}

func (w *world) check(err error) {
	w.Helper()
	if err != nil {
		w.Fatal(err)
	}
}

// start is a start of the program that uses stayauth. It returns its token.
func (w *world) start() string {
	w.Helper()
	e := w.endpoint()
	w.check(Import(w.Context(), w.cache, e, "", w.path))
	source, err := transport.NewSource(transport.SourceConfig{Cache: w.cache, Refresher: e})
	w.check(err)
	defer source.Close(context.Background())
	tok, err := source.Token(w.Context())
	if err != nil || !w.srv.Valid(string(tok.AccessToken)) {
		w.Fatal("the login is lost:", err)
	}
	return string(tok.AccessToken)
}

// A login that x/oauth2 has made and renewed goes on, whichever of its tokens is still good,
// and to import it at each start costs nothing: the file is old by then, and its refresh token
// spent.
func TestImportTakesALoginOver(t *testing.T) {
	for _, idle := range []time.Duration{time.Minute, 2 * time.Hour} {
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(t)
			login := w.srv.Login("ann")
			old := w.before(&oauth2.Token{RefreshToken: login.RefreshToken})
			time.Sleep(idle)
			if first := w.start(); (first == old.AccessToken) != (idle == time.Minute) {
				t.Error("a good token was not used, or another one was")
			}
			for range 5 {
				time.Sleep(2 * time.Hour)
				w.start()
				w.start()
			}
			if c := w.srv.Counts(); c.Reuses != 0 {
				t.Errorf("%d reuses", c.Reuses)
			}
		})
	}
}

// A file replaces no login that was made here and lives, whatever the time of the file, which is
// another one when somebody copies it. It replaces one that has ended, and earlier ones of the old
// program.
func TestImportReplacesNoNewerLogin(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.before(&oauth2.Token{RefreshToken: w.srv.Login("ann").RefreshToken})
		source, err := transport.NewSource(transport.SourceConfig{Cache: w.cache, Refresher: w.endpoint()})
		w.check(err)
		time.Sleep(2 * time.Hour)
		w.check(source.Login(t.Context(), w.srv.Login("bob").Record()))
		w.check(source.Close(t.Context()))
		account := func(want string) {
			t.Helper()
			if tok := w.start(); w.srv.Current(want).AccessToken != tok {
				t.Errorf("the login is not that of %s", want)
			}
		}
		account("bob")
		time.Sleep(2 * time.Hour)
		w.touch()
		account("bob")

		for _, file := range []*oauth2.Token{
			{RefreshToken: w.srv.Login("ann").RefreshToken}, // It has no expiry.
			{AccessToken: "x", RefreshToken: w.srv.Login("ann").RefreshToken, Expiry: time.Now().Add(10 * time.Hour)},
		} {
			time.Sleep(time.Hour)
			w.write(file)
			account("bob")
		}

		time.Sleep(time.Hour)
		w.before(&oauth2.Token{RefreshToken: w.srv.Login("eve").RefreshToken})
		account("bob")
		w.srv.RevokeFamily(w.srv.Current("bob").RefreshToken)
		time.Sleep(2 * time.Hour)
		source, err = transport.NewSource(transport.SourceConfig{Cache: w.cache, Refresher: w.endpoint()})
		w.check(err)
		if _, err := source.Token(t.Context()); !errors.Is(err, transport.ErrLoginRequired) {
			t.Errorf("a login that has ended: %v", err)
		}
		w.check(source.Close(t.Context()))
		account("eve")

		// Nor does a file without an expiry, whose refresh token is spent by now, though it
		// looks new or is of the future, because a clock was wrong. That does not make it newer
		// than all logins to come either.
		time.Sleep(time.Hour)
		w.write(&oauth2.Token{RefreshToken: w.srv.Login("dan").RefreshToken})
		w.check(os.Chtimes(w.path, time.Time{}, time.Now().Add(1000*time.Hour)))
		for range 3 {
			account("dan")
			time.Sleep(2 * time.Hour)
			w.touch()
		}
		w.write(&oauth2.Token{RefreshToken: w.srv.Login("fay").RefreshToken})
		account("fay")
		if c := w.srv.Counts(); c.Reuses != 0 {
			t.Errorf("%d reuses", c.Reuses)
		}
	})
}

// What is known to be of no use is no login, and the error says what to do.
func TestImportErrors(t *testing.T) {
	w := newWorld(t)
	for _, tt := range []struct {
		name, file string
		kind       transport.Kind
		says       string
	}{
		{"expired", `{"access_token":"SECRET","expiry":"2020-01-01T00:00:00Z"}`, transport.ErrLoginRequired, "no refresh token"},
		{"DPoP", `{"access_token":"SECRET","token_type":"DPoP","refresh_token":"SECRET"}`, transport.ErrMisconfigured, "only bearer tokens"},
		{"another client", "[photos]\nclient_id = other\ntoken = {\"refresh_token\":\"SECRET\"}", transport.ErrMisconfigured, `client "other"`},
		{"a token of another client", `{"refresh_token":"SECRET","client_id":"other"}`, transport.ErrMisconfigured, `client "other"`},
		{"a token of another server", `{"refresh_token":"SECRET","client_id":"client","token_uri":"https://other.test/token"}`, transport.ErrMisconfigured, `client "client" at "https://other.test/token"`},
		{"a user of Google", `{"type":"authorized_user","client_id":"client","refresh_token":"SECRET"}`, transport.ErrMisconfigured, `at "https://accounts.google.com"`},
		{"two of another", "[a]\nclient_id = other\ntoken = {\"refresh_token\":\"SECRET\"}\n[b]\nclient_id = other\ntoken = {\"refresh_token\":\"SECRET\"}", transport.ErrMisconfigured, "none of its 2 logins"},
		{"two of this client", "[a]\nclient_id = client\ntoken = {\"refresh_token\":\"SECRET\"}\n[b]\nclient_id = client\ntoken = {\"refresh_token\":\"SECRET\"}", transport.ErrMisconfigured, `"a", "b"`},
		{"no login", `{"password":"SECRET"}`, transport.ErrMisconfigured, "no known shape"},
		{"other accounts", `{"ann":{"refresh_token":"SECRET"},"bob":{"refresh_token":"SECRET"}}`, transport.ErrMisconfigured, `"ann", "bob"`},
	} {
		w.check(os.WriteFile(w.path, []byte(tt.file), 0o600))
		err := Import(t.Context(), w.cache, w.endpoint(), "", w.path)
		if !errors.Is(err, tt.kind) || !strings.Contains(err.Error(), tt.says) || !strings.Contains(err.Error(), w.path) || strings.Contains(err.Error(), "SECRET") {
			t.Errorf("%s: %v", tt.name, err)
		}
	}
	if err := Import(t.Context(), w.cache, w.endpoint(), "", w.path+".none"); !errors.Is(err, fs.ErrNotExist) || !errors.Is(err, transport.ErrMisconfigured) {
		t.Errorf("no file: %v", err)
	}
	if err := Import(t.Context(), w.cache, w.endpoint(), "", t.TempDir()); err == nil || !strings.Contains(err.Error(), "regular") {
		t.Errorf("a directory: %v", err)
	}
	for rec := range w.cache.List(t.Context()) {
		t.Errorf("imported %v", rec)
	}
	if _, err := new(Login).Record(w.endpoint(), ""); !errors.Is(err, transport.ErrLoginRequired) {
		t.Errorf("the zero Login: %v", err)
	}
	if _, err := (&Login{ClientID: "other"}).Record(w.endpoint(), ""); !errors.Is(err, transport.ErrMisconfigured) {
		t.Errorf("without tokens, of another client: %v", err)
	}
	// Nobody could find the login again.
	if _, err := (&Login{Tokens: &tokencache.Record{RefreshToken: "r"}}).Record(endpoint.FromTokenSource(nil), ""); !errors.Is(err, transport.ErrMisconfigured) {
		t.Errorf("a Refresher without an identity: %v", err)
	}
}

// Of several logins of a client, the account says which; a refresh token is never sent to the
// issuer of another.
func TestImportChoosesByClientIssuerAndName(t *testing.T) {
	w := newWorld(t)
	kube := func(name, issuer, token string) string {
		return `{"name":"` + name + `","user":{"auth-provider":{"name":"oidc","config":{"client-id":"app","idp-issuer-url":"` + issuer + `","refresh-token":"` + token + `"}}}}`
	}
	w.check(os.WriteFile(w.path, []byte(`{"users":[`+strings.Join([]string{
		kube("ann", "https://a.test", "of-ann"), kube("bob", "https://a.test/", "of-bob"), kube("ann", "https://b.test", "of-the-other-ann"),
	}, ",")+`]}`), 0o600))
	for _, tt := range []struct {
		issuer, account string
		want            tokencache.Secret
	}{
		{"https://a.test", "ann", "of-ann"},
		{"https://a.test", "bob", "of-bob"},
		{"https://b.test", "ann", "of-the-other-ann"},
		{"https://b.test", "me", "of-the-other-ann"}, // the only one there
		{"https://a.test", "me", ""},
		{"https://c.test", "ann", ""},
	} {
		e := &endpoint.Endpoint{Issuer: tt.issuer, TokenURL: tt.issuer + "/token", ClientID: "app"}
		err := Import(t.Context(), w.cache, e, tt.account, w.path)
		key := e.Identity().Key
		key.Account = tt.account
		rec, _, _ := w.cache.Load(t.Context(), key)
		if tt.want == "" {
			if err == nil || rec != nil {
				t.Errorf("%+v: imported %v, %v", tt, rec, err)
			} else if strings.Contains(err.Error(), "name a file") { // There is nothing wrong with the file.
				t.Errorf("%+v: the remedy does not help: %v", tt, err)
			}
		} else if err != nil || rec == nil || rec.RefreshToken != tt.want || rec.TokenURL != e.TokenURL {
			t.Errorf("%+v: %v, %v", tt, rec, err)
		}
	}

	// Tokens of several accounts do not say whose client has got them.
	w.check(os.WriteFile(w.path, []byte(`{"ann":{"refresh_token":"ann's"},"bob":{"refresh_token":"bob's"}}`), 0o600))
	w.check(Import(t.Context(), w.cache, w.endpoint(), "bob", w.path))
	key := w.endpoint().Identity().Key
	key.Account = "bob"
	if rec, _, err := w.cache.Load(t.Context(), key); err != nil || rec.RefreshToken != "bob's" {
		t.Errorf("bob among accounts: %v, %v", rec, err)
	}

	// The file has one login, of another issuer: it is refused by name.
	e := &endpoint.Endpoint{Issuer: "https://b.test", TokenURL: "https://b.test/token", ClientID: "app"}
	for _, file := range []string{`{"users":[` + kube("ann", "https://a.test", "of-ann") + `]}`, `{"refresh_token":"of-ann","issuer":"https://a.test"}`} {
		w.check(os.WriteFile(w.path, []byte(file), 0o600))
		if err := Import(t.Context(), w.cache, e, "other", w.path); !errors.Is(err, transport.ErrMisconfigured) || !strings.Contains(err.Error(), "https://a.test") {
			t.Errorf("another issuer: %v", err)
		}
	}
}

// The tokens of a database move in any number of runs, each row once, and a row of unknown age
// replaces nothing.
func TestRowsOfADatabase(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		type row struct {
			user    string
			token   *oauth2.Token
			updated time.Time
		}
		var rows []row
		for _, user := range []string{"ann", "bob"} {
			rows = append(rows, row{user, w.before(&oauth2.Token{RefreshToken: w.srv.Login(user).RefreshToken}), time.Now()})
		}
		rows[1].updated, rows[1].token.Expiry = time.Time{}, time.Time{}
		e := w.endpoint()
		run := func(imported, kept int) {
			t.Helper()
			gotImported, gotKept, err := w.cache.Import(t.Context(), func(yield func(*tokencache.Record, error) bool) {
				for _, r := range rows {
					l := Login{Tokens: endpoint.FromOAuth2(r.token), Written: r.updated}
					if rec, err := l.Record(e, r.user); !yield(rec, err) {
						return
					}
				}
			})
			if err != nil || gotImported != imported || gotKept != kept {
				t.Errorf("imported %d, kept %d, %v", gotImported, gotKept, err)
			}
		}
		run(2, 0)
		pool, err := transport.NewPool(transport.PoolConfig{Source: transport.SourceConfig{Cache: w.cache, Refresher: e}})
		w.check(err)
		defer pool.Close(context.Background())
		time.Sleep(2 * time.Hour)
		for _, r := range rows {
			tok, err := pool.Source(r.user).Token(t.Context())
			if err != nil || w.srv.Current(r.user).AccessToken != string(tok.AccessToken) {
				t.Errorf("%s: %v", r.user, err)
			}
		}
		run(0, 2)
		w.check(pool.Source("bob").Login(t.Context(), w.srv.Login("bob").Record()))
		time.Sleep(time.Hour)
		run(0, 2)
		if c := w.srv.Counts(); c.Reuses != 0 {
			t.Errorf("%d reuses", c.Reuses)
		}
	})
}
