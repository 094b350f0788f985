package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/stayauth/stayauth/transport"
	"github.com/stayauth/stayauth/transport/provider"
)

// findProvider returns the provider that p names: a preset, or an issuer whose
// metadata is asked for, and kept for when it cannot be reached.
func (c *cli) findProvider(ctx context.Context, p profile) (*provider.Provider, error) {
	if isURL(p.Provider) {
		dir := ""
		if c.dir != "" {
			dir = filepath.Join(c.dir, "providers")
		} else if cache, err := os.UserCacheDir(); err == nil && !isOfAnotherUser(cache) {
			dir = filepath.Join(cache, appName, "providers")
		}
		return provider.Discovery{Dir: dir}.Provider(ctx, p.Provider)
	}
	name, where, _ := strings.Cut(p.Provider, ":")
	switch name {
	case "google", "github":
		if where != "" {
			return nil, usagef("%s is in one place: use -provider %s", name, name)
		}
	case "auth0", "okta", "keycloak", "salesforce":
		if where == "" {
			return nil, usagef("where is %s? See 'stayauth help login' for -provider", name)
		}
	}
	switch name {
	case "google":
		return provider.Google(), nil
	case "github":
		return provider.GitHub(), nil
	case "gitlab":
		return provider.GitLab(where), nil
	case "microsoft":
		return provider.Microsoft(where), nil
	case "auth0":
		return provider.Auth0(where), nil
	case "okta":
		domain, server, _ := strings.Cut(where, "/")
		return provider.Okta(domain, server), nil
	case "keycloak":
		base, realm, ok := strings.Cut(where, "/realms/")
		if !ok || realm == "" {
			return nil, usagef("a realm of Keycloak is keycloak:https://sso.example.com/realms/NAME, not %q", p.Provider)
		}
		return provider.Keycloak(base, realm), nil
	case "salesforce":
		return provider.Salesforce(where), nil
	case "":
		return nil, fmt.Errorf("%w: no provider is known yet", transport.ErrLoginRequired)
	}
	return nil, usagef("there is no preset for a provider called %q; use -issuer for others", name)
}
