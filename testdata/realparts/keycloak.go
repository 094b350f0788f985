package realparts

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

// A Keycloak is a running server. What it has stored survives Stop, Crash and Start, as
// with a database that is not the server's own.
type Keycloak struct {
	Server
	CA *CA // of the server at SecureURL, and of the clients that have certificates there

	securePort int
}

// StartKeycloak starts a server that ends with the test.
func StartKeycloak(t testing.TB) *Keycloak {
	t.Helper()
	return startKeycloak(t)
}

// StartKeycloakAhead starts a server whose clock is ahead of this machine's, or behind.
func StartKeycloakAhead(t testing.TB, ahead time.Duration) *Keycloak {
	t.Helper()
	return startKeycloak(t, clockAhead(t, ahead)...)
}

// startKeycloak starts a server with further environment variables.
func startKeycloak(t testing.TB, environment ...string) *Keycloak {
	t.Helper()
	const what = "Keycloak (Debian: apt-get install openjdk-17-jre-headless maven)"
	java, err := exec.LookPath("java")
	Require(t, what, err)
	home, err := keycloakServer()
	Require(t, what, err)
	dir, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	// Keycloak writes the certificates that it trusts to a file in its home, and reads them from
	// there: servers that start together would trust each other's.
	own := filepath.Join(dir, "home")
	if err := os.Mkdir(own, 0o700); err != nil {
		t.Fatal(err)
	}
	for _, shared := range []string{"conf", "lib", "providers"} {
		if err := os.Symlink(filepath.Join(home, shared), filepath.Join(own, shared)); err != nil {
			t.Fatal(err)
		}
	}
	k := &Keycloak{Server{Port: FreePort(t), t: t, what: "Keycloak", stop: "TERM", crash: "KILL"}, NewCA(t), FreePort(t)}
	if strings.Contains(k.CA.File, ",") {
		t.Fatal("the name of this test has a comma, which separates paths for Keycloak")
	}
	cert, key := k.CA.Issue("127.0.0.1")
	k.command = func() (string, []string) {
		return "env", append(slices.Clone(environment),
			"KC_BOOTSTRAP_ADMIN_USERNAME=admin", "KC_BOOTSTRAP_ADMIN_PASSWORD=admin",
			// Without a delay, so that what was answered is stored.
			"KC_DB_URL=jdbc:h2:file:"+filepath.Join(dir, "db")+";NON_KEYWORDS=VALUE;DB_CLOSE_ON_EXIT=FALSE;WRITE_DELAY=0",
			"QUARKUS_TRANSACTION_MANAGER_OBJECT_STORE_DIRECTORY="+filepath.Join(dir, "transactions"),
			// What bin/kc.sh does. That script stays between, and a signal that kills it does not reach the server.
			"sh", "-c", untilInput, "sh", java,
			"-Xms64m", "-Xmx512m", "-XX:TieredStopAtLevel=1", // to start fast, not to be fast
			"-Dkc.home.dir="+own, "-Djboss.server.config.dir="+filepath.Join(home, "conf"),
			"-Djava.util.logging.manager=org.jboss.logmanager.LogManager", "-Dquarkus-log-max-startup-records=10000",
			"--add-opens=java.base/java.util=ALL-UNNAMED", "--add-opens=java.base/java.util.concurrent=ALL-UNNAMED", "--add-opens=java.base/java.security=ALL-UNNAMED",
			"-cp", filepath.Join(home, "lib", "quarkus-run.jar"), "io.quarkus.bootstrap.runner.QuarkusEntryPoint",
			"start", "--optimized", "--cache=local", "--http-enabled=true", "--hostname-strict=false", "--http-host=127.0.0.1", "--http-port="+strconv.Itoa(k.Port),
			"--https-port="+strconv.Itoa(k.securePort), "--https-certificate-file="+cert, "--https-certificate-key-file="+key, "--truststore-paths="+k.CA.File,
		)
	}
	k.ready = func() error {
		resp, err := http.Get(k.URL() + "/realms/master")
		if err != nil {
			return err
		}
		resp.Body.Close()
		if resp.StatusCode != http.StatusOK {
			return errors.New(resp.Status)
		}
		return nil
	}
	k.run()
	return k
}

// URL is the address of the server.
func (k *Keycloak) URL() string { return fmt.Sprintf("http://127.0.0.1:%d", k.Port) }

// SecureURL is its address with TLS, where it asks clients for certificates.
func (k *Keycloak) SecureURL() string { return fmt.Sprintf("https://127.0.0.1:%d", k.securePort) }

// A Realm has users and clients of its own. Each refresh token works once, and whoever
// presents it again ends the login ("Revoke Refresh Token").
type Realm struct {
	Name   string
	Issuer string
	API    string // A protected URL; it answers who called as JSON, to tokens with the scope openid.

	// Public may use the device grant, and Confidential has a secret, for
	// client_secret_basic. Both may use any port of a loopback redirect.
	Public, Confidential Client

	*Keycloak
	t testing.TB
}

// NewRealm makes a realm. Settings are those of a RealmRepresentation, such as
// "accessTokenLifespan".
func (k *Keycloak) NewRealm(t testing.TB, name string, settings map[string]any) *Realm {
	t.Helper()
	issuer := k.URL() + "/realms/" + name
	r := &Realm{
		Name: name, Issuer: issuer, API: issuer + "/protocol/openid-connect/userinfo",
		Public: Client{ID: "public"}, Confidential: Client{ID: "confidential", Secret: "a secret :%+/"},
		Keycloak: k, t: t,
	}
	var clients []map[string]any
	for _, c := range []Client{r.Public, r.Confidential} {
		clients = append(clients, map[string]any{
			"clientId": c.ID, "secret": c.Secret, "publicClient": c.Secret == "", "directAccessGrantsEnabled": true,
			"redirectUris": []string{"http://127.0.0.1/*"},
			"attributes":   map[string]string{"oauth2.device.authorization.grant.enabled": "true"},
		})
	}
	realm := map[string]any{
		"realm": name, "enabled": true, "sslRequired": "none", "clients": clients,
		"eventsEnabled": true, "enabledEventTypes": []string{"CODE_TO_TOKEN", "CODE_TO_TOKEN_ERROR", "REFRESH_TOKEN", "REFRESH_TOKEN_ERROR"},
		"revokeRefreshToken": true, "refreshTokenMaxReuse": 0,
	}
	maps.Copy(realm, settings)
	r.admin(http.MethodPost, "", realm, nil)
	return r
}

// Set changes settings of the realm.
func (r *Realm) Set(settings map[string]any) {
	r.t.Helper()
	r.admin(http.MethodPut, "/"+r.Name, settings, nil)
}

// Delete ends the realm, and all logins with it.
func (r *Realm) Delete() {
	r.t.Helper()
	r.admin(http.MethodDelete, "/"+r.Name, nil, nil)
}

// AddUser makes a user, whose password is the name.
func (r *Realm) AddUser(name string) {
	r.t.Helper()
	r.admin(http.MethodPost, "/"+r.Name+"/users", map[string]any{
		"username": name, "enabled": true, "firstName": name, "lastName": "Example",
		"email": name + "@example.com", "emailVerified": true,
		"credentials": []map[string]any{{"type": "password", "value": name}},
	}, nil)
}

// Logout does what an administrator does who ends all sessions of a user.
func (r *Realm) Logout(user string) {
	// Keycloak counts in seconds: what it has issued in the second of a logout outlives that.
	time.Sleep(1100 * time.Millisecond)
	r.t.Helper()
	var found []struct{ ID string }
	r.admin(http.MethodGet, "/"+r.Name+"/users?exact=true&username="+url.QueryEscape(user), nil, &found)
	if len(found) != 1 {
		r.t.Fatalf("%d users are called %s", len(found), user)
	}
	r.admin(http.MethodPost, "/"+r.Name+"/users/"+found[0].ID+"/logout", nil, nil)
}

// RequireConsent makes the server ask users what client may have. Mint does not work then.
func (r *Realm) RequireConsent(client Client) {
	r.t.Helper()
	var found []map[string]any
	r.admin(http.MethodGet, "/"+r.Name+"/clients?clientId="+url.QueryEscape(client.ID), nil, &found)
	if len(found) != 1 {
		r.t.Fatalf("%d clients are called %s", len(found), client.ID)
	}
	found[0]["consentRequired"] = true
	r.admin(http.MethodPut, fmt.Sprint("/", r.Name, "/clients/", found[0]["id"]), found[0], nil)
}

// Mint logs a user in at client without a browser. An empty scope means
// "openid offline_access".
func (r *Realm) Mint(client Client, user, scope string) Login {
	r.t.Helper()
	var l Login
	form := url.Values{"grant_type": {"password"}, "username": {user}, "password": {user},
		"client_id": {client.ID}, "scope": {cmp.Or(scope, "openid offline_access")}}
	if client.Secret != "" {
		form.Set("client_secret", client.Secret)
	}
	if err := answered(http.PostForm(r.Issuer+"/protocol/openid-connect/token", form))(&l); err != nil {
		r.t.Fatalf("a login of %s: %v", user, err)
	}
	return l
}

// Counts returns what the realm has seen so far. It does not know of its API.
func (r *Realm) Counts() Counts {
	r.t.Helper()
	grants := map[string]string{"CODE_TO_TOKEN": "authorization_code", "REFRESH_TOKEN": "refresh_token"}
	c := Counts{OK: make(map[string]int), Errors: make(map[string]int)}
	var events []struct {
		Type, Error string
		Details     map[string]string
	}
	r.admin(http.MethodGet, "/"+r.Name+"/events?max=100000", nil, &events)
	for _, e := range events {
		if grant := grants[e.Type]; grant != "" {
			c.OK[grant]++
		}
		if _, ofToken := grants[strings.TrimSuffix(e.Type, "_ERROR")]; e.Error == "" || !ofToken {
			continue
		}
		reason := e.Details["reason"]
		c.Errors[e.Error+": "+reason]++
		if strings.Contains(reason, "reuse exceeded") {
			c.Reuses++
		}
	}
	return c
}

// admin uses the server's API for administrators. Their tokens live for a minute, and a
// test may have stopped the server for longer: each call gets one.
func (r *Realm) admin(method, path string, body, answer any) {
	r.t.Helper()
	var token struct {
		AccessToken string `json:"access_token"`
	}
	err := answered(http.PostForm(r.URL()+"/realms/master/protocol/openid-connect/token",
		url.Values{"grant_type": {"password"}, "client_id": {"admin-cli"}, "username": {"admin"}, "password": {"admin"}}))(&token)
	var req *http.Request
	if err == nil {
		b, _ := json.Marshal(body)
		req, err = http.NewRequest(method, r.URL()+"/admin/realms"+path, bytes.NewReader(b))
	}
	if err == nil {
		req.Header.Set("Content-Type", "application/json")
		req.Header.Set("Authorization", "Bearer "+token.AccessToken)
		err = answered((&http.Client{Timeout: 3 * time.Minute}).Do(req))(answer)
	}
	if err != nil {
		r.t.Fatalf("Keycloak, %s %s: %v", method, path, err)
	}
}

// answered returns a function that decodes a successful answer.
func answered(resp *http.Response, err error) func(answer any) error {
	return func(answer any) error {
		if err != nil {
			return err
		}
		defer resp.Body.Close()
		body, err := io.ReadAll(resp.Body)
		switch {
		case err != nil:
			return err
		case resp.StatusCode >= 300:
			return fmt.Errorf("HTTP %d: %s", resp.StatusCode, body)
		case answer == nil:
			return nil
		}
		return json.Unmarshal(body, answer)
	}
}
