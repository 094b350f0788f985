package provider

import (
	"net/url"
	"strings"

	"golang.org/x/oauth2"
)

// GitHub is for GitHub Apps that act for a user. The app must expire its user
// tokens, which is an option of the app and the default of new ones; without it,
// and for OAuth apps, there is no refresh token, and access tokens do not expire.
// What a GitHub App may do is set in the app: it needs no scopes.
//
// A refresh kills the old access token at once, together with the old refresh token, and there
// is no grace. A client that logged in with the device flow needs no secret to refresh. For
// GitHub Enterprise Server change the host of every address. A service that acts as the app
// itself, in its installations, uses grants.GitHubApp.
//
// GitHub does not support revocation by RFC 7009: Logout forgets the login here, and the user
// can revoke the app in GitHub's settings. GitHub's own call for that, DELETE
// /applications/{client_id}/token, is documented for the access token, not for the refresh
// token, and takes a client secret.
//
// Not confirmed in GitHub's documentation: how long after its use a refresh token
// is accepted again, if at all.
func GitHub() *Provider {
	return &Provider{
		Name:          "GitHub",
		Issuer:        "https://github.com/login/oauth",
		AuthURL:       "https://github.com/login/oauth/authorize",
		TokenURL:      "https://github.com/login/oauth/access_token",
		DeviceAuthURL: "https://github.com/login/device/code",
		AuthStyle:     oauth2.AuthStyleInParams,
		AuthParams:    url.Values{},
		Origins:       []string{"https://api.github.com", "https://uploads.github.com"},
		IdleTime:      183 * day,
	}
}

// GitLab is for gitlab.com, or for a GitLab server of your own at baseURL. Empty
// means gitlab.com.
//
// Every login by authorization code brings a refresh token. A refresh kills the old access
// token and the old refresh token at once, and must repeat the redirect_uri of the login, which
// is therefore stored with it. Name the scopes that the program needs, such as "read_api";
// otherwise GitLab chooses them.
//
// Not confirmed in GitLab's documentation: the lifetime of refresh tokens, and that
// the device flow (GitLab 17.2 or later) brings one: the documented answer has none.
func GitLab(baseURL string) *Provider {
	if baseURL == "" {
		baseURL = "https://gitlab.com"
	}
	base := server(baseURL)
	return &Provider{
		Name:              "GitLab",
		Issuer:            base,
		AuthURL:           base + "/oauth/authorize",
		TokenURL:          base + "/oauth/token",
		DeviceAuthURL:     base + "/oauth/authorize_device",
		RevocationURL:     base + "/oauth/revoke",
		AuthStyle:         oauth2.AuthStyleInParams,
		AuthParams:        url.Values{},
		RepeatRedirectURI: true,
		Origins:           []string{origin(base)},
	}
}

// Facebook is for Facebook Login and the Graph API. It needs the app secret, so it is for
// programs on servers only.
//
// Facebook has no refresh tokens. A login brings an access token for an hour or two, which
// Endpoint.Exchange exchanges at once for one that lives about 60 days. A Source with the Lead
// of this Provider asks for the next one 20 days before the expiry, when the token is used or
// by KeepFresh, and again after half of what is left. An expired token cannot be exchanged, so
// the login is over then.
//
// There are reports that Facebook answers such a request with the same token and does not
// extend it. In that case users have to log in every 60 days, and Status.RefreshExpiry says
// when.
//
// The addresses name no version of the Graph API, which means the oldest one that
// the app may use. If you put one in, keep it: a login is bound to its TokenURL.
// Logout forgets the login here; the user can remove the app in Facebook's settings.
//
// Not confirmed in Facebook's documentation: that a token of 60 days can be
// exchanged at all; the exchange by POST instead of GET, which keeps tokens out of
// logs; the addresses without a version; DELETE /{user-id}/permissions as a way to
// log out, which therefore is not used.
func Facebook() *Provider {
	return &Provider{
		Name:          "Facebook",
		Issuer:        "https://www.facebook.com",
		AuthURL:       "https://www.facebook.com/dialog/oauth",
		TokenURL:      "https://graph.facebook.com/oauth/access_token",
		AuthStyle:     oauth2.AuthStyleInParams,
		AuthParams:    url.Values{},
		ExchangeGrant: "fb_exchange_token",
		Origins:       []string{"https://graph.facebook.com"},
		Lead:          20 * day,
	}
}

// Salesforce is for an org of Salesforce. host is its My Domain, such as
// "example.my.salesforce.com", or a site of Experience Cloud; tokens go nowhere else.
//
// It asks for the scope offline_access; name those of the APIs too, such as "api". Whether refresh
// tokens are rotated and when they end is set in the app. A user has five logins with one app at
// most: another one ends the oldest. Salesforce does not say when an access token expires, so it is
// used until the API rejects it.
//
// With "login.salesforce.com", or "test.salesforce.com" for sandboxes, the users of all orgs can log
// in, and Origins is empty: the API is where the "instance_url" in Record.Extra of a login says, and
// a token is for that address alone. List it, or "https://*.my.salesforce.com" if each request of
// the program goes to the address of its own account.
//
// A service that acts for users by a key uses grants.JWTBearer with the username as the account,
// and with Audience "https://login.salesforce.com" or, for a sandbox, "https://test.salesforce.com".
//
// Not confirmed in Salesforce's documentation: the issuer of ID tokens.
func Salesforce(host string) *Provider {
	base := server(host)
	p := &Provider{
		Name:          "Salesforce",
		Issuer:        base,
		AuthURL:       base + "/services/oauth2/authorize",
		TokenURL:      base + "/services/oauth2/token",
		RevocationURL: base + "/services/oauth2/revoke",
		AuthStyle:     oauth2.AuthStyleInParams,
		Scopes:        []string{"offline_access"},
		AuthParams:    url.Values{},
	}
	if o := origin(base); !strings.EqualFold(o, "https://login.salesforce.com") && !strings.EqualFold(o, "https://test.salesforce.com") {
		p.Origins = []string{o}
	}
	return p
}
