package grants_test

import (
	"bufio"
	"bytes"
	"crypto"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"errors"
	"io"
	"maps"
	"math/big"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stayauth/stayauth/tokencache"
	"github.com/stayauth/stayauth/transport"
	"github.com/stayauth/stayauth/transport/clientauth"
	"github.com/stayauth/stayauth/transport/grants"
	"github.com/stayauth/stayauth/transport/internal/testkit"
	"github.com/stayauth/stayauth/transport/provider"
)

// A robot is a service that has no user, as somebody writes it who uses that provider. Its
// documented answers are in testdata/providers.
type robot struct {
	name, dir string
	account   string
	caller    tokencache.Secret // the token that it is called with
	make      func(t *testing.T, home robotHome) transport.Refresher
	sends     string            // all that matters of a request, see sentBy
	answers   map[string]string // what each file there means, "success" first
}

// A robotHome is what is on its machine.
type robotHome struct {
	key  string // a file with an RSA key, its certificate after it
	file string // any other that it needs
	base http.RoundTripper
}

const (
	badProof     = "misconfigured: fix Endpoint.ClientAuth"
	notInstalled = "misconfigured: see on GitHub whether this app has an installation of that number, and whether it is suspended"

	callersToken    = "eyJhbGciOiJub25lIn0.eyJzdWIiOiJhbm4ifQ.c2ln"
	callerMustLogIn = "login required: answer 401 to the caller, with the Claims of this error if it has any: only another token of the user helps"

	badStatement = "misconfigured: check who the client is, and whether the provider knows the key that signs its statements: it does not accept them"
)

var robots = []robot{
	{
		name: "Okta service app", dir: "okta",
		make: func(t *testing.T, home robotHome) transport.Refresher {
			p := provider.Okta("example.okta.com", "")
			e := p.Endpoint("0oa1robot", "", "okta.users.read")
			e.ClientAuth = &clientauth.PrivateKey{Key: clientauth.KeyFile(home.key, "key-1"), EndpointAudience: true}
			e.Base = home.base
			return e.ClientCredentials()
		},
		sends: `POST https://example.okta.com/oauth2/v1/token
client_assertion.alg=RS256
client_assertion.aud=https://example.okta.com/oauth2/v1/token
client_assertion.iss=0oa1robot
client_assertion.kid=key-1
client_assertion.sub=0oa1robot
client_assertion.typ=JWT
client_assertion.x5t#S256=THUMBPRINT
client_assertion_type=urn:ietf:params:oauth:client-assertion-type:jwt-bearer
client_id=0oa1robot
grant_type=client_credentials
scope=okta.users.read`,
		answers: map[string]string{
			"success":   "okta-robot-1 for 1h0m0s",
			"audience":  badProof,
			"key":       badProof,
			"dpop":      "misconfigured: fix Endpoint.DPoP",
			"scope":     "misconfigured: check what the provider grants to this client",
			"throttled": "provider unavailable: back off",
		},
	},
	{
		name: "Microsoft Entra certificate", dir: "microsoft",
		make: func(t *testing.T, home robotHome) transport.Refresher {
			p := provider.Microsoft("contoso.onmicrosoft.com")
			e := p.Endpoint("00000000-robot", "", "https://graph.microsoft.com/.default")
			e.ClientAuth = &clientauth.PrivateKey{Key: clientauth.KeyFile(home.key, ""), EndpointAudience: true}
			e.Base = home.base
			return e.ClientCredentials()
		},
		sends: `POST https://login.microsoftonline.com/contoso.onmicrosoft.com/oauth2/v2.0/token
client_assertion.alg=PS256
client_assertion.aud=https://login.microsoftonline.com/contoso.onmicrosoft.com/oauth2/v2.0/token
client_assertion.iss=00000000-robot
client_assertion.sub=00000000-robot
client_assertion.typ=JWT
client_assertion.x5t#S256=THUMBPRINT
client_assertion_type=urn:ietf:params:oauth:client-assertion-type:jwt-bearer
client_id=00000000-robot
grant_type=client_credentials
scope=https://graph.microsoft.com/.default`,
		answers: map[string]string{
			"success":     "microsoft-robot-1 for 59m59s",
			"certificate": badProof,
			"clock":       "provider unavailable: wait 1s",
			"scope":       "misconfigured: fix Endpoint.Scopes",
			"throttled":   "provider unavailable: wait 1m0s",
		},
	},
	{
		name: "Microsoft Entra federated credential", dir: "microsoft",
		make: func(t *testing.T, home robotHome) transport.Refresher {
			must(t, os.WriteFile(home.file, []byte("eyJhbGciOiJub25lIn0.eyJzdWIiOiJyb2JvdCJ9.c2ln\n"), 0o600))
			e := provider.Microsoft("contoso.onmicrosoft.com").Endpoint("00000000-robot", "", "https://graph.microsoft.com/.default")
			e.ClientAuth = clientauth.TokenFile(home.file) // os.Getenv("AZURE_FEDERATED_TOKEN_FILE")
			e.Base = home.base
			return e.ClientCredentials()
		},
		sends: `POST https://login.microsoftonline.com/contoso.onmicrosoft.com/oauth2/v2.0/token
client_assertion.alg=none
client_assertion.sub=robot
client_assertion_type=urn:ietf:params:oauth:client-assertion-type:jwt-bearer
client_id=00000000-robot
grant_type=client_credentials
scope=https://graph.microsoft.com/.default`,
		answers: map[string]string{
			"success":    "microsoft-robot-1 for 59m59s",
			"federation": badProof,
			"clock":      "provider unavailable: wait 1s",
		},
	},
	{
		name: "Microsoft Entra on behalf of a user", dir: "microsoft", caller: callersToken,
		make: func(t *testing.T, home robotHome) transport.Refresher {
			e := provider.Microsoft("contoso.onmicrosoft.com").Endpoint("00000000-robot", "secret", "https://graph.microsoft.com/User.Read")
			e.Base = home.base
			return grants.MicrosoftOnBehalfOf(e).Refresher
		},
		sends: `POST https://login.microsoftonline.com/contoso.onmicrosoft.com/oauth2/v2.0/token
assertion.alg=none
assertion.sub=ann
client_id=00000000-robot
client_secret=secret
grant_type=urn:ietf:params:oauth:grant-type:jwt-bearer
requested_token_use=on_behalf_of
scope=https://graph.microsoft.com/User.Read`,
		answers: map[string]string{
			"behalf":      "microsoft-behalf-1 for 54m29s",
			"interaction": callerMustLogIn,
			"expired":     callerMustLogIn,
			"certificate": "misconfigured: fix Endpoint.ClientSecret",
		},
	},
	{
		name: "Google service account", dir: "google", account: "ann@example.com",
		make: func(t *testing.T, home robotHome) transport.Refresher {
			text, err := os.ReadFile(home.key)
			must(t, err)
			key, err := clientauth.ParseKey(text)
			must(t, err)
			serviceAccount(t, home.file, key.Signer, map[string]any{"token_uri": "https://oauth2.googleapis.com/token"})
			r, err := grants.GoogleServiceAccount{File: home.file, Scopes: []string{"https://www.googleapis.com/auth/drive.readonly"}, Base: home.base}.Refresher()
			must(t, err)
			return r
		},
		sends: `POST https://oauth2.googleapis.com/token
assertion.alg=RS256
assertion.aud=https://oauth2.googleapis.com/token
assertion.iss=robot@example.iam.gserviceaccount.com
assertion.kid=k1
assertion.scope=https://www.googleapis.com/auth/drive.readonly
assertion.sub=ann@example.com
assertion.typ=JWT
client_id=robot@example.iam.gserviceaccount.com
grant_type=urn:ietf:params:oauth:grant-type:jwt-bearer`,
		answers: map[string]string{
			"success":    "google-robot-1 for 59m59s",
			"signature":  "misconfigured: check what the provider grants to this client",
			"account":    "misconfigured: check what the provider grants to this client",
			"clock":      "provider unavailable: wait 1s",
			"delegation": "misconfigured: fix Endpoint.ClientID",
			"outage":     "outcome unknown: ask again",
		},
	},
	{
		name: "GitHub App", dir: "github", account: "42",
		make: func(t *testing.T, home robotHome) transport.Refresher {
			return grants.GitHubApp{ClientID: "Iv23robot", Key: clientauth.KeyFile(home.key, ""), Base: home.base}.Refresher()
		},
		sends: `POST https://api.github.com/app/installations/42/access_tokens
Authorization.alg=RS256
Authorization.iss=Iv23robot
Authorization.typ=JWT
Authorization.x5t#S256=THUMBPRINT`,
		answers: map[string]string{
			"success":     "ghs_…475 for 1h0m0s", // C95: stateless tokens are that long
			"suspended":   notInstalled,
			"uninstalled": notInstalled,
			"clock":       "provider unavailable: wait 1s",
			"key":         badStatement,
			"throttled":   "provider unavailable: wait 1m0s",
			"outage":      "outcome unknown: ask again",
		},
	},
	{
		name: "GitHub App on GitHub Enterprise Server", dir: "github", account: "42",
		make: func(t *testing.T, home robotHome) transport.Refresher {
			return grants.GitHubApp{ClientID: "Iv23robot", API: "https://github.example.com/api/v3", Key: clientauth.KeyFile(home.key, ""), Base: home.base}.Refresher()
		},
		sends: `POST https://github.example.com/api/v3/app/installations/42/access_tokens
Authorization.alg=RS256
Authorization.iss=Iv23robot
Authorization.typ=JWT
Authorization.x5t#S256=THUMBPRINT`,
		answers: map[string]string{"enterprise": "ghs_…40 for 1h0m0s"},
	},
	{
		name: "Salesforce by a key", dir: "salesforce", account: "ann@example.com",
		make: func(t *testing.T, home robotHome) transport.Refresher {
			e := provider.Salesforce("example.my.salesforce.com").Endpoint("3MVG9robot", "")
			e.Base = home.base
			return grants.JWTBearer(e, grants.JWT{Key: clientauth.KeyFile(home.key, ""), Audience: "https://login.salesforce.com"})
		},
		sends: `POST https://example.my.salesforce.com/services/oauth2/token
assertion.alg=RS256
assertion.aud=https://login.salesforce.com
assertion.iss=3MVG9robot
assertion.sub=ann@example.com
assertion.typ=JWT
assertion.x5t#S256=THUMBPRINT
client_id=3MVG9robot
grant_type=urn:ietf:params:oauth:grant-type:jwt-bearer`,
		answers: map[string]string{
			"success":   "salesforce-robot-1 until it is rejected, at https://example.my.salesforce.com",
			"approval":  "misconfigured: check what the provider grants to this client",
			"audience":  "misconfigured: check what the provider grants to this client",
			"assertion": "misconfigured: check what the provider grants to this client",
			"throttled": "provider unavailable: wait 1m0s",
		},
	},
}

const robotAnswers = "../../testdata/providers"

// answeredAt is when the answers were made that say so.
var answeredAt = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

// TestRobots: what the short code for each provider sends, to the letter, and what each of the
// provider's documented answers means to it.
func TestRobots(t *testing.T) {
	key, thumbprint := robotKey(t)
	for _, r := range robots {
		t.Run(r.name, func(t *testing.T) {
			for _, file := range slices.Sorted(maps.Keys(r.answers)) {
				synctest.Test(t, func(t *testing.T) { // for its clock, which stands still
					time.Sleep(time.Until(answeredAt) - 2*time.Minute) // It is slow.
					wire, err := os.ReadFile(filepath.Join(robotAnswers, r.dir, "robot", file+".http"))
					must(t, err)
					sent := ""
					base := testkit.RoundTripFunc(func(req *http.Request) (*http.Response, error) {
						sent = strings.ReplaceAll(sentBy(t, req), thumbprint, "THUMBPRINT")
						return http.ReadResponse(bufio.NewReader(bytes.NewReader(wire)), req)
					})
					refresher := r.make(t, robotHome{key: key, file: filepath.Join(t.TempDir(), "file"), base: base})
					ctx, account := t.Context(), r.account
					if r.caller != "" {
						ctx, account = grants.WithCaller(ctx, r.caller), hashOf(r.caller)
					}
					rec, err := refresher.Refresh(ctx, &tokencache.Record{Key: tokencache.Key{Account: account}})
					if sent != r.sends {
						t.Errorf("sent\n%s\nwant\n%s", sent, r.sends)
					}
					if got := robotMeaning(rec, err); got != r.answers[file] {
						t.Errorf("%s means %q, want %q: %v", file, got, r.answers[file], err)
					}
				})
			}
		})
	}
}

// TestEveryAnswerOfARobotIsRead: an answer that is added is led to its test.
func TestEveryAnswerOfARobotIsRead(t *testing.T) {
	files, err := filepath.Glob(filepath.Join(robotAnswers, "*", "robot", "*.http"))
	must(t, err)
	for _, path := range files {
		dir, name := filepath.Base(filepath.Dir(filepath.Dir(path))), strings.TrimSuffix(filepath.Base(path), ".http")
		if !slices.ContainsFunc(robots, func(r robot) bool { return r.dir == dir && r.answers[name] != "" }) {
			t.Errorf("no row of the table says what %s means", path)
		}
	}
}

// hashOf returns the account of a caller.
func hashOf(token tokencache.Secret) string {
	sum := sha256.Sum256([]byte(token))
	return hex.EncodeToString(sum[:])
}

// robotKey makes a file with a key and its certificate, and returns the thumbprint of that.
func robotKey(t *testing.T) (path, thumbprint string) {
	t.Helper()
	key := testkit.NewKey(t, "RS256")
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour)}
	certificate, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	must(t, err)
	der, err := x509.MarshalPKCS8PrivateKey(crypto.PrivateKey(key))
	must(t, err)
	text := append(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: certificate})...)
	path = filepath.Join(t.TempDir(), "robot.pem")
	must(t, os.WriteFile(path, text, 0o600))
	sum := sha256.Sum256(certificate)
	return path, base64.RawURLEncoding.EncodeToString(sum[:])
}

// sentBy returns the parameters of a request, one a line, with what statements say instead of
// the statements; without what is different each time.
func sentBy(t *testing.T, req *http.Request) string {
	t.Helper()
	body, err := io.ReadAll(req.Body)
	must(t, err)
	form, err := url.ParseQuery(string(body))
	must(t, err)
	if bearer, ok := strings.CutPrefix(req.Header.Get("Authorization"), "Bearer "); ok {
		form.Set("Authorization", bearer)
	}
	var lines []string
	for name, values := range form {
		if name != "client_assertion" && name != "assertion" && name != "Authorization" {
			lines = append(lines, name+"="+strings.Join(values, " and "))
			continue
		}
		for _, part := range strings.Split(values[0], ".")[:2] {
			raw, err := base64.RawURLEncoding.DecodeString(part)
			must(t, err)
			var said map[string]any
			must(t, json.Unmarshal(raw, &said))
			for what, value := range said {
				if text, ok := value.(string); ok && what != "jti" {
					lines = append(lines, name+"."+what+"="+text)
				}
			}
		}
	}
	slices.Sort(lines)
	return req.Method + " " + req.URL.String() + "\n" + strings.Join(lines, "\n")
}

// robotMeaning tells what came of a request, and what to do next.
func robotMeaning(rec *tokencache.Record, err error) string {
	if e, ok := errors.AsType[*transport.Error](err); ok {
		next := "back off"
		switch {
		case e.Field != "":
			next = "fix " + e.Field
		case e.Kind == transport.ErrMisconfigured, e.Kind == transport.ErrLoginRequired:
			next = e.Remedy
		case e.RetryAfter > 0:
			next = "wait " + e.RetryAfter.String()
		case e.Kind == transport.ErrAmbiguous:
			next = "ask again"
		}
		return string(e.Kind) + ": " + next
	}
	token := string(rec.AccessToken)
	if strings.HasPrefix(token, "ghs_") {
		token = "ghs_…" + strconv.Itoa(len(token))
	}
	if rec.Expiry.IsZero() {
		token += " until it is rejected"
	} else {
		token += " for " + rec.Expiry.Sub(rec.ObtainedAt).String()
	}
	if at := rec.Extra["instance_url"]; at != "" {
		token += ", at " + string(at)
	}
	return token
}
