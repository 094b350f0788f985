package provider

import (
	"net/url"
	"strings"
	"time"

	"golang.org/x/oauth2"
)

// Google is for Google accounts and Workspace.
//
// It asks for offline access and for consent: without consent Google issues a refresh token only
// the first time a user allows the program. Refresh tokens are not rotated. They end after six
// months without use, when the user changes the password and the scopes include Gmail, when the
// same user logs in to the same client for the 101st time, and after seven days as long as the
// project's consent screen is external and in testing (set Lifetime then). A desktop client has a
// secret too, which is not really secret: pass it all the same.
//
// The device flow allows few scopes, and no API of Google beyond them.
//
// A service account has no login: see grants.GoogleServiceAccount.
//
// Not confirmed in Google's documentation: that the token endpoint wants the secret
// in the body; Google's metadata lists both ways.
func Google() *Provider {
	return &Provider{
		Name:          "Google",
		Issuer:        "https://accounts.google.com",
		AuthURL:       "https://accounts.google.com/o/oauth2/v2/auth",
		TokenURL:      "https://oauth2.googleapis.com/token",
		DeviceAuthURL: "https://oauth2.googleapis.com/device/code",
		RevocationURL: "https://oauth2.googleapis.com/revoke",
		AuthStyle:     oauth2.AuthStyleInParams,
		AuthParams:    url.Values{"access_type": {"offline"}, "prompt": {"consent"}},
		Origins:       []string{"https://*.googleapis.com"},
		IdleTime:      180 * day,
	}
}

// Microsoft is for Microsoft Entra ID, formerly Azure AD, and Microsoft accounts. tenant is the
// domain or identifier of a tenant, or "organizations", "consumers" or "common"; empty means
// "common". For a sovereign cloud change the host of every address, and Origins.
//
// It asks for the scope offline_access, which is not enough on its own: name at least one scope
// of an API, such as "User.Read". Every refresh returns another refresh token, good for 90
// days, and the old one stays good too; those of a single-page application end after 24 hours,
// whatever is done (set Lifetime then).
// Each token is for one API, that of the first scope. Endpoint.For with the scope of another one
// renews a token for that one in the same login, once the user has consented to it: name its scopes
// too. ClientCredentials needs the scope "https://graph.microsoft.com/.default", or the like of
// another API. Instead of a secret, a service has a certificate, which is a clientauth.PrivateKey
// with EndpointAudience, or a federated credential, which is a clientauth.TokenFile.
//
// Microsoft has no endpoint to revoke a token: Logout forgets the login here, and the tokens
// live until they expire or the user ends the session in the account's settings.
//
// Not confirmed in Microsoft's documentation: that there is no such endpoint; none
// is mentioned.
func Microsoft(tenant string) *Provider {
	if tenant == "" {
		tenant = "common"
	}
	base := "https://login.microsoftonline.com/" + url.PathEscape(tenant)
	return &Provider{
		Name:           "Microsoft",
		Issuer:         base + "/v2.0",
		AuthURL:        base + "/oauth2/v2.0/authorize",
		TokenURL:       base + "/oauth2/v2.0/token",
		DeviceAuthURL:  base + "/oauth2/v2.0/devicecode",
		AuthStyle:      oauth2.AuthStyleInParams,
		AuthAlgorithms: []string{"PS256"},
		Scopes:         []string{"offline_access"},
		AuthParams:     url.Values{},
		Origins:        []string{"https://graph.microsoft.com"},
		IdleTime:       90 * day,
	}
}

// Auth0 is for a tenant of Auth0. domain is that of the tenant, such as "example.eu.auth0.com",
// or a custom domain.
//
// It asks for the scope offline_access; the API must allow offline access as well.
// To get a token for an API of your own, name it and list its origin:
//
//	p.AuthParams.Set("audience", "https://api.example.com")
//	p.Origins = append(p.Origins, "https://api.example.com")
//
// That is for logins. ClientCredentials sends the Params of the Endpoint instead: name the
// audience there.
//
// With rotation, which is a setting of the application, a refresh token can be used once; set
// an overlap period of some seconds there, so that a lost answer is not a lost login. Rotation
// does not extend the login beyond the absolute lifetime of its refresh token, 30 days unless
// set otherwise (set Lifetime then). Depending on the tenant's settings, revoking ends all
// logins of the user with this application.
//
// Not confirmed in Auth0's documentation: that the application authenticates with
// the secret in the body, which is a setting of the application.
func Auth0(domain string) *Provider {
	base := server(domain)
	return &Provider{
		Name:          "Auth0",
		Issuer:        base + "/", // Auth0 ends it with a slash.
		AuthURL:       base + "/authorize",
		TokenURL:      base + "/oauth/token",
		DeviceAuthURL: base + "/oauth/device/code",
		RevocationURL: base + "/oauth/revoke",
		PARURL:        base + "/oauth/par",
		AuthStyle:     oauth2.AuthStyleInParams,
		Scopes:        []string{"offline_access"},
		AuthParams:    url.Values{},
		Origins:       []string{origin(base)},
		Lifetime:      30 * day,
	}
}

// Keycloak is for a realm of a Keycloak server, such as "https://sso.example.com"
// and "staff". Servers before Keycloak 17, and some since, have "/auth" at the end
// of the base address.
//
// It asks for the scope offline_access, for a login that outlives the browser's session; the
// client and the user must be allowed to have it. Clear Scopes for a login that ends with the
// session. Where "Revoke Refresh Token" is on, a refresh token is good for one use, and using
// it twice ends the login. A logout ends the session of this login; without LogoutURL, which
// Discover cannot find, it would end all sessions of the user with this client.
//
// Answers without iss are refused, because Keycloak has sent it since version 23. Clear
// SendsIss for an older server, and for a client that has "Exclude Issuer From Authentication
// Response" on. Unlike Discover, the preset does not ask for consent together with
// offline_access: Keycloak grants that without consent, and asks by itself if a client needs
// the user's consent.
//
// Tokens are usually for APIs of your own: list their origins.
//
// Not confirmed in Keycloak's documentation: that clients authenticate with HTTP Basic, which
// is one of several ways that the server accepts.
func Keycloak(baseURL, realm string) *Provider {
	base := server(baseURL)
	issuer := base + "/realms/" + url.PathEscape(realm)
	oidc := issuer + "/protocol/openid-connect"
	return &Provider{
		Name:          "Keycloak",
		Issuer:        issuer,
		AuthURL:       oidc + "/auth",
		TokenURL:      oidc + "/token",
		DeviceAuthURL: oidc + "/auth/device",
		RevocationURL: oidc + "/revoke",
		LogoutURL:     oidc + "/logout",
		PARURL:        oidc + "/ext/par/request",
		SendsIss:      true,
		AuthStyle:     oauth2.AuthStyleInHeader,
		Scopes:        []string{"offline_access"},
		AuthParams:    url.Values{},
		Origins:       []string{origin(base)},
		IdleTime:      30 * day, // of an offline session
	}
}

// Okta is for an Okta organization. domain is that of the organization, such as
// "example.okta.com". authServer is the identifier of a custom authorization server, often
// "default"; empty means the organization's own, whose tokens are for Okta's API only.
//
// It asks for the scope offline_access; the application must have the grant type "Refresh
// Token". Rotation is a setting of the application: a spent refresh token is accepted for a
// grace period, 30 seconds unless set otherwise, and after that its use ends the login and all
// its access tokens. Refresh tokens end after seven days without use, unless the authorization
// server's policy says otherwise.
//
// A service app calls Okta's own API: it has no authServer, scopes such as "okta.users.read", a
// clientauth.PrivateKey with EndpointAudience, and ClientCredentials. "Require Demonstrating
// Proof of Possession (DPoP) header in token requests" is on in new ones: set Endpoint.DPoP, or
// turn it off.
//
// Not confirmed in Okta's documentation: the addresses for the device flow and for pushed
// authorization requests, which are in the metadata of its servers; that an answer of status
// 429 says in X-Rate-Limit-Reset when to come back. That header is not read: a Source backs off
// as usual.
func Okta(domain, authServer string) *Provider {
	base := server(domain)
	issuer, endpoints := base, base+"/oauth2/v1"
	if authServer != "" {
		issuer = base + "/oauth2/" + url.PathEscape(authServer)
		endpoints = issuer + "/v1"
	}
	return &Provider{
		Name:          "Okta",
		Issuer:        issuer,
		AuthURL:       endpoints + "/authorize",
		TokenURL:      endpoints + "/token",
		DeviceAuthURL: endpoints + "/device/authorize",
		RevocationURL: endpoints + "/revoke",
		PARURL:        endpoints + "/par",
		AuthStyle:     oauth2.AuthStyleInHeader,
		Scopes:        []string{"offline_access"},
		AuthParams:    url.Values{},
		Origins:       []string{origin(base)},
		IdleTime:      7 * day,
	}
}

const day = 24 * time.Hour

// server returns the base address of a server that is given by its address or, with https, by
// its host alone.
func server(s string) string {
	if !strings.Contains(s, "://") {
		s = "https://" + s
	}
	return strings.TrimRight(s, "/")
}

// origin returns the origin of a base address, for transport.Config.
func origin(base string) string {
	u, err := url.Parse(base)
	if err != nil || u.Host == "" {
		return base // transport.New will say what is wrong with it.
	}
	return u.Scheme + "://" + u.Host
}
