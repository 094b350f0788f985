package main

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/stayauth/stayauth/transport/clientauth"
	"github.com/stayauth/stayauth/transport/endpoint"
	"github.com/stayauth/stayauth/transport/oauthtest"
)

// serviceAccount is the name of a robot at Google.
const serviceAccount = "robot@example.iam.gserviceaccount.com"

// A program that acts for itself logs in by a key that is in a file, is known by what users are
// known by, and ends like them. The scripts find the key in robot.pem, and in google.json as
// Google's console writes it.
func TestRobots(t *testing.T) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	text := pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})
	robots := oauthtest.Config{AuthStyle: oauthtest.AuthPrivateKey, ClientKeys: []crypto.PublicKey{key.Public()}}
	provide := setup(robots, "file", nil)
	cmds := map[string]func(*testscript.TestScript, bool, []string){
		// platform FILE: the platform writes another token that says who the program is.
		"platform": func(ts *testscript.TestScript, _ bool, args []string) {
			srv := stageOf(ts).srv
			auth := clientauth.PrivateKey{Key: clientauth.KeyFile(ts.MkAbs("robot.pem"), "")}
			r := endpoint.AuthRequest{ClientID: srv.ClientID(), Issuer: srv.URL(), Now: time.Now(), Header: http.Header{}, Form: url.Values{}}
			ts.Check(auth.Authenticate(t.Context(), &r))
			ts.Check(os.WriteFile(ts.MkAbs(args[0]), []byte(r.Form.Get("client_assertion")), 0o600))
		},
	}
	for name, cmd := range scriptCommands {
		cmds[name] = cmd
	}
	testscript.Run(t, testscript.Params{Dir: "testdata/robot", Cmds: cmds, Condition: condition(t.TempDir()), Setup: func(env *testscript.Env) error {
		if err := provide(env); err != nil {
			return err
		}
		env.Setenv("STAYAUTH_CLIENT_SECRET", "")
		google := oauthtest.New(oauthtest.Config{AuthStyle: oauthtest.AuthNone, ClientID: serviceAccount, ClientKeys: robots.ClientKeys})
		if err := google.Start(); err != nil {
			return err
		}
		env.Defer(google.Close)
		s := env.Values["stage"].(*stage)
		s.more = append(s.more, google)
		env.Setenv("GOOGLEAPI", google.APIURL())
		env.Setenv("GOOGLEORIGIN", google.APIOrigin())
		file, err := json.Marshal(map[string]string{"type": "service_account", "client_email": serviceAccount,
			"private_key_id": "k1", "private_key": string(text), "token_uri": google.TokenURL()})
		return errors.Join(err,
			os.WriteFile(filepath.Join(env.WorkDir, "robot.pem"), text, 0o600),
			os.WriteFile(filepath.Join(env.WorkDir, "google.json"), file, 0o600))
	}})
}

// The statement is for whom the provider wants it to be for, and the key never goes with a secret.
func TestWhatAKeySigns(t *testing.T) {
	for provider, endpoint := range map[string]bool{
		"okta:example.okta.com":                 true, // also that of a revocation
		"microsoft:contoso.example":             true,
		"keycloak:https://sso.example/realms/r": false, // the issuer
		"auth0:example.eu.auth0.com":            false,
	} {
		c := &cli{options: options{clientSecret: "secret"}}
		known, err := c.client(t.Context(), profile{Provider: provider, ClientID: "robot", KeyFile: "robot.pem", Robot: true})
		if err != nil {
			t.Fatal(err)
		}
		auth, ok := known.endpoint.ClientAuth.(*clientauth.PrivateKey)
		if !ok || auth.Audience != "" || auth.EndpointAudience != endpoint || known.endpoint.ClientSecret != "" {
			t.Errorf("%s: %+v", provider, auth)
		}
	}
}
