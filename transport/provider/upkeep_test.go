package provider_test

import (
	"testing"
	"time"

	"github.com/stayauth/stayauth/transport/provider"
)

// What ends a login at a provider reaches those who keep it alive, by way of its Endpoint.
func TestPresetsKnowWhatEndsALogin(t *testing.T) {
	const day = 24 * time.Hour
	entraSPA := provider.Microsoft("contoso.example")
	entraSPA.Lifetime = day
	for _, tt := range []struct {
		p                  *provider.Provider
		idleTime, lifetime time.Duration
	}{
		{provider.Google(), 180 * day, 0},
		{provider.Microsoft(""), 90 * day, 0},
		{entraSPA, 90 * day, day},
		{provider.Auth0("example.auth0.com"), 0, 30 * day},
		{provider.Keycloak("https://sso.example", "staff"), 30 * day, 0},
		{provider.Okta("example.okta.com", "default"), 7 * day, 0},
		{provider.GitHub(), 183 * day, 0},
		{provider.GitLab(""), 0, 0},
		{provider.Facebook(), 0, 0},
	} {
		e := tt.p.Endpoint("client", "secret")
		if id := e.Identity(); id.IdleTime != tt.idleTime || id.Lifetime != tt.lifetime {
			t.Errorf("%s: idle time %v, lifetime %v", tt.p.Name, id.IdleTime, id.Lifetime)
		}
	}
}
