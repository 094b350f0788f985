package clientauth_test

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/big"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stayauth/stayauth/tokencache"
	"github.com/stayauth/stayauth/transport"
	"github.com/stayauth/stayauth/transport/clientauth"
	"github.com/stayauth/stayauth/transport/endpoint"
	"github.com/stayauth/stayauth/transport/internal/testkit"
	"github.com/stayauth/stayauth/transport/oauthtest"
)

// claimsOf returns the header and the claims of a form's assertion.
func claimsOf(t *testing.T, f url.Values) (header, claims map[string]any) {
	t.Helper()
	parts := strings.Split(f.Get("client_assertion"), ".")
	if len(parts) != 3 {
		t.Fatalf("%d parts", len(parts))
	}
	for i, into := range []*map[string]any{&header, &claims} {
		raw, err := base64.RawURLEncoding.DecodeString(parts[i])
		if err == nil {
			err = json.Unmarshal(raw, into)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	return header, claims
}

// TestStatement: what is signed is what RFC 7523 section 3 wants, and nothing else (C76, C77,
// C78, C80, C81).
func TestStatement(t *testing.T) {
	key := testkit.NewKey(t, "RS256")
	block, _ := pem.Decode([]byte(selfSigned(t, key)))
	certificate, err := x509.ParseCertificate(block.Bytes)
	must(t, err)
	sum := sha256.Sum256(block.Bytes)
	for _, tt := range []struct {
		name   string
		auth   *clientauth.PrivateKey
		header string
		aud    string
		lives  float64
	}{
		{"nothing said", &clientauth.PrivateKey{Key: fixed(clientauth.Key{Signer: key})}, `{"alg":"RS256","typ":"JWT"}`, "https://issuer.example", 60},
		{"everything said", &clientauth.PrivateKey{
			Key:      fixed(clientauth.Key{Signer: key, Algorithm: "PS256", ID: "k1", Certificate: certificate}),
			Audience: "https://issuer.example/token", Lifetime: 10 * time.Minute, Type: "client-authentication+jwt"},
			`{"alg":"PS256","kid":"k1","typ":"client-authentication+jwt","x5t#S256":"` + base64.RawURLEncoding.EncodeToString(sum[:]) + `"}`,
			"https://issuer.example/token", 600},
		{"for the endpoint", &clientauth.PrivateKey{Key: fixed(clientauth.Key{Signer: key}), EndpointAudience: true},
			`{"alg":"RS256","typ":"JWT"}`, "https://issuer.example/revoke", 60},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var jti string
			for range 2 {
				now := time.Unix(1_800_000_000, 0)
				r := &endpoint.AuthRequest{ClientID: "me", Issuer: "https://issuer.example", URL: "https://issuer.example/revoke", Now: now, Header: http.Header{}, Form: url.Values{"client_id": {"me"}}}
				if err := tt.auth.Authenticate(t.Context(), r); err != nil {
					t.Fatal(err)
				}
				if len(r.Header) != 0 || len(r.Form) != 3 || r.Form.Get("client_assertion_type") != "urn:ietf:params:oauth:client-assertion-type:jwt-bearer" {
					t.Errorf("header %v, form %v", r.Header, r.Form)
				}
				header, claims := claimsOf(t, r.Form)
				if got, _ := json.Marshal(header); string(got) != tt.header {
					t.Errorf("header %s, want %s", got, tt.header)
				}
				id, _ := claims["jti"].(string)
				if len(id) < 22 || id == jti {
					t.Errorf("jti %q after %q", id, jti)
				}
				jti = id
				delete(claims, "jti")
				want := map[string]any{"iss": "me", "sub": "me", "aud": tt.aud, "iat": float64(now.Unix()), "exp": float64(now.Unix()) + tt.lives}
				if fmt.Sprint(claims) != fmt.Sprint(want) {
					t.Errorf("claims %v, want %v", claims, want)
				}
			}
		})
	}
}

// Okta takes no statement at one endpoint that was made for another one.
func TestEachEndpointHasItsAudience(t *testing.T) {
	key := testkit.NewKey(t, "ES256")
	var asked []string
	e := &endpoint.Endpoint{TokenURL: "https://as.test/token", RevocationURL: "https://as.test/revoke", ClientID: "me",
		ClientAuth: &clientauth.PrivateKey{Key: fixed(clientauth.Key{Signer: key}), EndpointAudience: true},
		Base: testkit.RoundTripFunc(func(req *http.Request) (*http.Response, error) {
			body, err := io.ReadAll(req.Body)
			if err != nil {
				return nil, err
			}
			form, _ := url.ParseQuery(string(body))
			_, claims := claimsOf(t, form)
			if claims["aud"] != req.URL.String() {
				t.Errorf("%s was sent a statement for %v", req.URL, claims["aud"])
			}
			asked = append(asked, req.URL.Path)
			return testkit.Respond(200, `{"access_token":"a","refresh_token":"r"}`).RoundTrip(req)
		})}
	login := &tokencache.Record{TokenURL: e.TokenURL, RefreshToken: "r"}
	if _, err := e.Refresh(t.Context(), login); err != nil {
		t.Error(err)
	}
	if err := e.Revoke(t.Context(), login); err != nil {
		t.Error(err)
	}
	if _, err := e.Post(t.Context(), "par", "https://as.test/par", nil); err != nil {
		t.Error(err)
	}
	if len(asked) != 3 {
		t.Errorf("asked %v", asked)
	}
	both := &clientauth.PrivateKey{Key: fixed(clientauth.Key{Signer: key}), EndpointAudience: true, Audience: "https://as.test"}
	wantError(t, both.Authenticate(t.Context(), &endpoint.AuthRequest{Form: url.Values{}}), transport.ErrMisconfigured)
}

// What the provider's metadata lists decides how a key signs, where there is a choice, and a key
// that fits none of it signs nothing (C86).
func TestAlgorithmsOfTheProvider(t *testing.T) {
	ec, rsaKey, ed := testkit.NewKey(t, "ES256"), testkit.NewKey(t, "RS256"), testkit.NewKey(t, "EdDSA")
	for _, tt := range []struct {
		name   string
		key    clientauth.Key
		listed []string
		alg    string // "": nothing is sent
	}{
		{"nothing said", clientauth.Key{Signer: rsaKey}, nil, "RS256"},
		{"nothing listed", clientauth.Key{Signer: rsaKey}, []string{}, "RS256"},
		{"all listed", clientauth.Key{Signer: rsaKey}, []string{"PS256", "RS256", "ES256"}, "RS256"},
		{"FAPI 2.0", clientauth.Key{Signer: rsaKey}, []string{"PS256", "ES256", "EdDSA"}, "PS256"},
		{"asked for and not listed", clientauth.Key{Signer: rsaKey, Algorithm: "RS256"}, []string{"PS256"}, ""},
		{"asked for and listed", clientauth.Key{Signer: rsaKey, Algorithm: "PS256"}, []string{"PS256", "RS256"}, "PS256"},
		{"asked for, the better one, and not listed", clientauth.Key{Signer: rsaKey, Algorithm: "PS256"}, []string{"RS256"}, ""},
		{"ECDSA", clientauth.Key{Signer: ec}, []string{"ES256"}, "ES256"},
		{"ECDSA and not listed", clientauth.Key{Signer: ec}, []string{"PS256", "RS256", "HS256", "none"}, ""},
		{"Ed25519 and not listed", clientauth.Key{Signer: ed}, []string{"ES256"}, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			srv, e := server(t, oauthtest.Config{}, ec, rsaKey, ed)
			e.ClientAuth, e.AuthAlgorithms = &clientauth.PrivateKey{Key: fixed(tt.key)}, tt.listed
			base, alg := e.Base, ""
			e.Base = testkit.RoundTripFunc(func(req *http.Request) (*http.Response, error) {
				body, err := req.GetBody()
				must(t, err)
				raw, err := io.ReadAll(body)
				must(t, err)
				form, err := url.ParseQuery(string(raw))
				must(t, err)
				header, _ := claimsOf(t, form)
				alg, _ = header["alg"].(string)
				return base.RoundTrip(req)
			})
			_, err := e.ClientCredentials().Refresh(t.Context(), new(tokencache.Record))
			if tt.alg == "" {
				if wantError(t, err, transport.ErrMisconfigured); srv.Counts().TokenRequests != 0 || !strings.Contains(err.Error(), "only "+strings.Join(tt.listed, ", ")) {
					t.Errorf("got %v", err)
				}
			} else if err != nil || alg != tt.alg {
				t.Errorf("signed with %q, %v", alg, err)
			}
		})
	}
}

// Every request that a login ever makes has a statement of its own, repetitions included (C79).
func TestEachRequestIsProven(t *testing.T) {
	for _, alg := range []string{"ES256", "PS256", "RS256", "EdDSA"} {
		t.Run(alg, func(t *testing.T) {
			key := testkit.NewKey(t, alg)
			synctest.Test(t, func(t *testing.T) {
				srv, e := server(t, oauthtest.Config{Policy: oauthtest.Grace}, key)
				e.ClientAuth = &clientauth.PrivateKey{Key: fixed(clientauth.Key{Signer: key, Algorithm: alg})}
				s := source(t, e)
				if err := s.Login(t.Context(), record(srv, "ann")); err != nil {
					t.Fatal(err)
				}
				for _, fault := range []oauthtest.Fault{oauthtest.Status(429, time.Second), oauthtest.AfterCommit(oauthtest.Drop), oauthtest.AfterCommit(oauthtest.Status(503, 0))} {
					time.Sleep(2 * time.Hour)
					srv.Fault("/token", 1, fault)
					for range 10 {
						if _, err := s.Token(t.Context()); err == nil {
							break
						}
						time.Sleep(10 * time.Second)
					}
				}
				if _, err := s.Token(t.Context()); err != nil {
					t.Error(err)
				}
				if err := s.Logout(t.Context()); err != nil {
					t.Error(err)
				}
				n := srv.Counts()
				if n.Rotations < 3 || n.Revocations == 0 || n.Reuses != 0 || n.RepeatedAssertions != 0 || n.Assertions < 5 {
					t.Errorf("%+v", n)
				}
			})
		})
	}
}

func record(srv *oauthtest.Server, account string) *tokencache.Record {
	tok := srv.Login(account)
	return &tokencache.Record{AccessToken: tokencache.Secret(tok.AccessToken), RefreshToken: tokencache.Secret(tok.RefreshToken), TokenType: "Bearer", Expiry: tok.Expiry}
}

func source(t *testing.T, e *endpoint.Endpoint) *transport.Source {
	t.Helper()
	cache, err := tokencache.New(new(tokencache.Memory), nil)
	if err != nil {
		t.Fatal(err)
	}
	s, err := transport.NewSource(transport.SourceConfig{Cache: cache, Refresher: e})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// A strangeSigner is a key in a key service.
type strangeSigner struct {
	crypto.Signer
	sign func() error // called before each signature
}

func (s strangeSigner) Sign(r io.Reader, message []byte, opts crypto.SignerOpts) ([]byte, error) {
	if err := s.sign(); err != nil {
		return nil, err
	}
	return s.Signer.Sign(r, message, opts)
}

// A key service that fails or hangs spends no refresh token, and holds nobody up for long (C83).
func TestKeyServiceThatIsDown(t *testing.T) {
	for _, hangs := range []bool{false, true} {
		t.Run(fmt.Sprint("hangs ", hangs), func(t *testing.T) {
			key := testkit.NewKey(t, "ES256")
			synctest.Test(t, func(t *testing.T) {
				srv, e := server(t, oauthtest.Config{Policy: oauthtest.StrictFamily}, key)
				up := make(chan struct{})
				var mu sync.Mutex
				calls := 0
				e.ClientAuth = &clientauth.PrivateKey{Key: fixed(clientauth.Key{Signer: strangeSigner{key, func() error {
					mu.Lock()
					calls++
					mu.Unlock()
					select {
					case <-up:
						return nil
					default:
					}
					if !hangs {
						return errors.New("the key service is away")
					}
					<-up
					return nil
				}}})}
				s := source(t, e)
				if err := s.Login(t.Context(), record(srv, "ann")); err != nil {
					t.Fatal(err)
				}
				time.Sleep(2 * time.Hour)
				begun := time.Now()
				_, err := s.Token(t.Context())
				told := wantError(t, err, transport.ErrUnavailable)
				if took := time.Since(begun); took > 20*time.Second {
					t.Errorf("the caller waited for %v", took)
				}
				if !strings.Contains(err.Error(), "nothing was sent") || told.RetryAt.IsZero() {
					t.Errorf("got %v, retry at %v", err, told.RetryAt)
				}
				time.Sleep(10 * time.Minute)
				if n := srv.Counts(); n.TokenRequests != 0 {
					t.Errorf("something was sent: %+v", n)
				}
				mu.Lock()
				if calls > 40 {
					t.Errorf("%d signatures were asked for in ten minutes", calls)
				}
				mu.Unlock()
				close(up)
				time.Sleep(6 * time.Minute)
				if _, err := s.Token(t.Context()); err != nil {
					t.Errorf("the key service is back: %v", err)
				}
				if n := srv.Counts(); n.Rotations != 1 || n.Reuses != 0 || n.RepeatedAssertions != 0 {
					t.Errorf("%+v", n)
				}
			})
		})
	}
}

// A clock that was off, or was set right after a statement was dated by the provider's, costs an
// attempt and not minutes, and no login (C78).
func TestClockThatWasOff(t *testing.T) {
	key := testkit.NewKey(t, "ES256")
	synctest.Test(t, func(t *testing.T) {
		srv, e := server(t, oauthtest.Config{Policy: oauthtest.StrictFamily}, key)
		e.ClientAuth = &clientauth.PrivateKey{Key: fixed(clientauth.Key{Signer: key})}
		base, off := e.Base, 50*time.Minute
		e.Base = testkit.RoundTripFunc(func(req *http.Request) (*http.Response, error) {
			resp, err := base.RoundTrip(req)
			if err == nil {
				resp.Header.Set("Date", time.Now().Add(off).UTC().Format(http.TimeFormat))
				off = 0 // Somebody sets the clock.
			}
			return resp, err
		})
		s := source(t, e)
		must(t, s.Login(t.Context(), record(srv, "ann")))
		time.Sleep(2 * time.Hour)
		srv.Fault("/token", 1, oauthtest.Status(503, 0))
		begun := time.Now()
		for {
			_, err := s.Token(t.Context())
			if err == nil {
				break
			}
			if wantError(t, err, transport.ErrUnavailable); time.Since(begun) > time.Minute {
				t.Fatalf("after %v: %v", time.Since(begun), err)
			}
			time.Sleep(time.Second)
		}
		if n := srv.Counts(); n.Rotations != 1 || n.Reuses != 0 || n.TokenRequests != 3 {
			t.Errorf("%+v", n)
		}
	})
}

// A key service whose client panics does not end the process, which keeps other logins too.
func TestKeyServiceThatPanics(t *testing.T) {
	key := testkit.NewKey(t, "ES256")
	for name, signer := range map[string]crypto.Signer{
		"signs":         strangeSigner{key, func() error { panic("secret") }},
		"has no public": strangeSigner{nil, nil},
		"a nil key":     (*ecdsa.PrivateKey)(nil),
	} {
		t.Run(name, func(t *testing.T) {
			srv, e := server(t, oauthtest.Config{}, key)
			e.ClientAuth = &clientauth.PrivateKey{Key: fixed(clientauth.Key{Signer: signer})}
			_, err := e.ClientCredentials().Refresh(t.Context(), new(tokencache.Record))
			if wantError(t, err, transport.ErrUnavailable); strings.Contains(err.Error(), "secret") || srv.Counts().TokenRequests != 0 {
				t.Errorf("got %v", err)
			}
		})
	}
}

// What is wrong is said before anything is sent, and no error shows a key or a statement.
func TestBadKeys(t *testing.T) {
	ec, ed := testkit.NewKey(t, "ES256"), testkit.NewKey(t, "EdDSA")
	for _, tt := range []struct {
		name string
		auth *clientauth.PrivateKey
		kind transport.Kind
		says string
	}{
		{"nil", nil, transport.ErrMisconfigured, "PrivateKey.Key"},
		{"no key", &clientauth.PrivateKey{}, transport.ErrMisconfigured, "PrivateKey.Key"},
		{"nil key", &clientauth.PrivateKey{Key: func(context.Context) (*clientauth.Key, error) { return nil, nil }}, transport.ErrMisconfigured, "Signer"},
		{"no signer", &clientauth.PrivateKey{Key: fixed(clientauth.Key{})}, transport.ErrMisconfigured, "Signer"},
		{"another algorithm", &clientauth.PrivateKey{Key: fixed(clientauth.Key{Signer: ec, Algorithm: "RS256"})}, transport.ErrMisconfigured, "RS256"},
		{"none", &clientauth.PrivateKey{Key: fixed(clientauth.Key{Signer: ed, Algorithm: "none"})}, transport.ErrMisconfigured, "none"},
		{"too long", &clientauth.PrivateKey{Key: fixed(clientauth.Key{Signer: ec}), Lifetime: time.Hour}, transport.ErrMisconfigured, "ten minutes"},
		{"negative", &clientauth.PrivateKey{Key: fixed(clientauth.Key{Signer: ec}), Lifetime: -1}, transport.ErrMisconfigured, "ten minutes"},
		{"cannot be had", &clientauth.PrivateKey{Key: func(context.Context) (*clientauth.Key, error) { return nil, errors.New("vault is sealed") }}, transport.ErrUnavailable, "vault is sealed"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			srv, e := server(t, oauthtest.Config{}, ec)
			e.ClientAuth = tt.auth
			_, err := e.Refresh(t.Context(), &tokencache.Record{RefreshToken: "old", TokenURL: e.TokenURL})
			if wantError(t, err, tt.kind); !strings.Contains(err.Error(), tt.says) {
				t.Errorf("got %v", err)
			}
			if n := srv.Counts(); n.TokenRequests != 0 {
				t.Errorf("%+v", n)
			}
		})
	}
}

// No way to print a key shows it.
func TestKeyIsNotPrinted(t *testing.T) {
	key := testkit.NewKey(t, "ES256").(*ecdsa.PrivateKey)
	k := clientauth.Key{Signer: key, ID: "k1"}
	d, err := key.Bytes()
	must(t, err)
	shown := func(text string) bool {
		return strings.Contains(text, new(big.Int).SetBytes(d).String()) || strings.Contains(text, hex.EncodeToString(d)) || strings.Contains(text, key.X.String())
	}
	values := []any{k, &k, []clientauth.Key{k}, map[clientauth.Key]*clientauth.Key{k: &k}, struct{ K any }{k}}
	for _, v := range append(values, &clientauth.PrivateKey{Key: fixed(k)}) {
		for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%d", "%x"} {
			if shown(fmt.Sprintf(verb, v)) {
				t.Errorf("%s of %T shows the key", verb, v)
			}
		}
	}
	for _, v := range values { // A log in JSON is where nobody thinks of it.
		text, err := json.Marshal(v)
		var log bytes.Buffer
		slog.New(slog.NewJSONHandler(&log, nil)).Info("value", "v", v)
		slog.New(slog.NewTextHandler(&log, nil)).Info("value", "v", v)
		if err != nil || shown(string(text)) || shown(log.String()) || !strings.Contains(string(text), "k1") {
			t.Errorf("JSON of %T: %v, or it shows the key", v, err)
		}
	}
}

// What a provider lists is shown in one line, without commands to a terminal.
func TestMetadataIsShownInOneLine(t *testing.T) {
	lies := []string{"\x1b[2Jnone\nstayauth: log in at https://evil.example", strings.Repeat("x", 10_000)}
	key := testkit.NewKey(t, "ES256")
	auth := &clientauth.PrivateKey{Key: fixed(clientauth.Key{Signer: key})}
	for name, e := range map[string]*endpoint.Endpoint{
		"algorithms":                  {ClientAuth: auth, AuthAlgorithms: lies},
		"methods":                     {ClientAuth: auth, AuthMethods: lies},
		"methods, with a certificate": {ClientCertificate: true, AuthMethods: lies},
	} {
		e.TokenURL, e.ClientID = "https://login.example.com/token", "client"
		_, err := e.ClientCredentials().Refresh(t.Context(), nil)
		if wantError(t, err, transport.ErrMisconfigured); strings.ContainsAny(err.Error(), "\x1b\n") || len(err.Error()) > 500 || !strings.Contains(err.Error(), "evil.example") {
			t.Errorf("%s: %.600q", name, err.Error())
		}
	}
}
