package provider_test

import (
	"fmt"
	"log"
	"net/http"
	"os"

	"github.com/stayauth/stayauth/tokencache"
	"github.com/stayauth/stayauth/transport"
	"github.com/stayauth/stayauth/transport/clientauth"
	"github.com/stayauth/stayauth/transport/provider"
)

// A client of a provider: only the first two lines differ from one provider to the
// next. A program that is to stay logged in across restarts uses a cache on disk.
func Example() {
	p := provider.GitLab("https://gitlab.example.com")
	endpoint := p.Endpoint("client-id", "", "read_api")

	cache, err := tokencache.New(new(tokencache.Memory), nil)
	if err != nil {
		log.Fatal(err)
	}
	source, err := transport.NewSource(transport.SourceConfig{
		Cache:     cache,
		Refresher: endpoint,
		Lead:      p.Lead,
	})
	if err != nil {
		log.Fatal(err)
	}
	rt, err := transport.New(transport.Config{Source: source, Origins: p.Origins})
	if err != nil {
		log.Fatal(err)
	}
	client := &http.Client{Transport: rt}

	_, err = client.Get("https://gitlab.example.com/api/v4/user")
	fmt.Println(err)
	// Output: Get "https://gitlab.example.com/api/v4/user": stayauth: refresh: login required; log in first: there is no refresh token
}

// A desktop program, which Google gives a secret that is none.
func ExampleGoogle() {
	p := provider.Google()
	endpoint := p.Endpoint("1234.apps.googleusercontent.com", "GOCSPX-example",
		"https://www.googleapis.com/auth/calendar.readonly")

	fmt.Println(endpoint.Scopes, p.AuthParams.Encode())
	// Output: [https://www.googleapis.com/auth/calendar.readonly] access_type=offline&prompt=consent
}

// A program for the users of one tenant. Others pass "organizations" or "common".
func ExampleMicrosoft() {
	p := provider.Microsoft("contoso.onmicrosoft.com")
	endpoint := p.Endpoint("00000000-0000-0000-0000-000000000000", "", "User.Read", "Calendars.Read")

	fmt.Println(endpoint.Scopes, p.Origins)
	// Output: [User.Read Calendars.Read offline_access] [https://graph.microsoft.com]
}

// The cloud of the US government has its own hosts. Whatever a preset says can be
// changed.
func ExampleMicrosoft_sovereignCloud() {
	const login = "https://login.microsoftonline.us/contoso.onmicrosoft.us"
	p := provider.Microsoft("contoso.onmicrosoft.us")
	p.Issuer = login + "/v2.0"
	p.AuthURL = login + "/oauth2/v2.0/authorize"
	p.TokenURL = login + "/oauth2/v2.0/token"
	p.DeviceAuthURL = login + "/oauth2/v2.0/devicecode"
	p.Origins = []string{"https://graph.microsoft.us"}
	endpoint := p.Endpoint("00000000-0000-0000-0000-000000000000", "", "https://graph.microsoft.us/User.Read")

	fmt.Println(endpoint.TokenURL)
	// Output: https://login.microsoftonline.us/contoso.onmicrosoft.us/oauth2/v2.0/token
}

// A program that calls an API of its own, behind Auth0.
func ExampleAuth0() {
	p := provider.Auth0("example.eu.auth0.com")
	p.AuthParams.Set("audience", "https://api.example.com")
	p.Origins = []string{"https://api.example.com"}
	endpoint := p.Endpoint("client-id", "", "read:orders")

	fmt.Println(endpoint.Scopes, p.AuthParams.Encode())
	// Output: [read:orders offline_access] audience=https%3A%2F%2Fapi.example.com
}

// A program that calls an API of its own, behind Keycloak.
func ExampleKeycloak() {
	p := provider.Keycloak("https://sso.example.com", "staff")
	p.Origins = []string{"https://api.example.com"}
	endpoint := p.Endpoint("orders-cli", "", "openid")

	fmt.Println(endpoint.TokenURL)
	// Output: https://sso.example.com/realms/staff/protocol/openid-connect/token
}

// A program that calls an API of its own, behind a custom authorization server.
func ExampleOkta() {
	p := provider.Okta("example.okta.com", "default")
	p.Origins = []string{"https://api.example.com"}
	endpoint := p.Endpoint("0oa1example", "", "openid", "orders.read")

	fmt.Println(endpoint.Issuer, endpoint.Scopes)
	// Output: https://example.okta.com/oauth2/default [openid orders.read offline_access]
}

// A service app that calls Okta's own API as itself, by a key whose public half is in the app.
func ExampleOkta_serviceApp() {
	p := provider.Okta("example.okta.com", "")
	endpoint := p.Endpoint("0oa1example", "", "okta.users.read")
	endpoint.ClientAuth = &clientauth.PrivateKey{Key: clientauth.KeyFile("key.pem", "key-1"), EndpointAudience: true}
	config := transport.SourceConfig{Refresher: endpoint.ClientCredentials()} // and a Cache

	fmt.Println(config.Refresher.Identity().Key.Audience, p.Origins)
	// Output: scope=okta.users.read [https://example.okta.com]
}

// A service that acts as itself, by a certificate. The file holds the private key, and then the
// certificate that was uploaded to the app registration.
func ExampleMicrosoft_certificate() {
	p := provider.Microsoft("contoso.onmicrosoft.com")
	endpoint := p.Endpoint("00000000-0000-0000-0000-000000000000", "", "https://graph.microsoft.com/.default")
	endpoint.ClientAuth = &clientauth.PrivateKey{Key: clientauth.KeyFile("robot.pem", ""), EndpointAudience: true}
	config := transport.SourceConfig{Refresher: endpoint.ClientCredentials()} // and a Cache

	fmt.Println(config.Refresher.Identity().Key.Audience, p.Origins)
	// Output: scope=https%3A%2F%2Fgraph.microsoft.com%2F.default [https://graph.microsoft.com]
}

// A service in Kubernetes that acts as itself, by the token of its service account. The webhook of
// workload identity sets the variables.
func ExampleMicrosoft_federatedCredential() {
	p := provider.Microsoft(os.Getenv("AZURE_TENANT_ID"))
	endpoint := p.Endpoint(os.Getenv("AZURE_CLIENT_ID"), "", "https://graph.microsoft.com/.default")
	endpoint.ClientAuth = clientauth.TokenFile(os.Getenv("AZURE_FEDERATED_TOKEN_FILE"))
	config := transport.SourceConfig{Refresher: endpoint.ClientCredentials()} // and a Cache

	fmt.Println(config.Refresher.Identity().Key.Audience)
	// Output: scope=https%3A%2F%2Fgraph.microsoft.com%2F.default
}

// A GitHub App that acts for its user. It has no scopes: the app says what it may
// do. The secret can be left out after a login by the device flow.
func ExampleGitHub() {
	p := provider.GitHub()
	endpoint := p.Endpoint("Iv23example", "")

	fmt.Println(p.DeviceAuthURL, endpoint.Scopes)
	// Output: https://github.com/login/device/code []
}

// A server of one's own. For gitlab.com pass "".
func ExampleGitLab() {
	p := provider.GitLab("https://gitlab.example.com")
	endpoint := p.Endpoint("client-id", "", "read_api")

	fmt.Println(endpoint.TokenURL, p.Origins)
	// Output: https://gitlab.example.com/oauth/token [https://gitlab.example.com]
}

// A service that acts for its users. It needs the secret, and p.Lead.
func ExampleFacebook() {
	p := provider.Facebook()
	endpoint := p.Endpoint("1234567890", "app-secret", "public_profile")
	config := transport.SourceConfig{Refresher: endpoint, Lead: p.Lead}

	fmt.Println(config.Lead.Hours()/24, "days")
	// Output: 20 days
}

// A program for the users of one org.
func ExampleSalesforce() {
	p := provider.Salesforce("example.my.salesforce.com")
	endpoint := p.Endpoint("client-id", "client-secret", "api")

	fmt.Println(endpoint.Scopes, p.Origins)
	// Output: [api offline_access] [https://example.my.salesforce.com]
}
