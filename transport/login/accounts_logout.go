package login

import (
	"cmp"
	"context"
	"errors"
	"fmt"

	"github.com/stayauth/stayauth/tokencache"
	"github.com/stayauth/stayauth/transport"
)

// LogoutEverywhere logs out of every account in the cache, whatever provider and client it
// belongs to, as [transport.Source.Logout] does. refresher returns the Refresher of a login; if
// it is a transport.Revoker, the tokens end at the provider too, and not only here. A Source
// that has the token in memory notices when an API rejects it, or at the next refresh.
//
// If one logout fails, it goes on with the others. The error says which accounts are still
// logged in, and wraps the *transport.Error of each; LogoutEverywhere can be called again.
// Logins that cannot be read are among them, and are kept; Source.Forget removes them.
func LogoutEverywhere(ctx context.Context, cache *tokencache.Cache, refresher func(tokencache.Key) (transport.Refresher, error)) error {
	accounts, err := Accounts(ctx, cache, tokencache.Key{})
	errs := []error{err}
	for _, a := range accounts {
		if err := logout(ctx, cache, a.Key, refresher); err != nil {
			errs = append(errs, fmt.Errorf("%s at %s is still logged in: %w", cmp.Or(a.Name, "the account"), a.Key.Issuer, err))
		}
	}
	return errors.Join(errs...)
}

func logout(ctx context.Context, cache *tokencache.Cache, key tokencache.Key, refresher func(tokencache.Key) (transport.Refresher, error)) error {
	r, err := refresher(key)
	if err != nil {
		return err
	}
	// The key is the one that was found. The Refresher must not say what its logins are
	// for, because that would lead to another entry.
	var keyed transport.Refresher = nameless{r}
	if revoker, ok := r.(transport.Revoker); ok {
		keyed = struct {
			nameless
			transport.Revoker
		}{nameless{r}, revoker}
	}
	source, err := transport.NewSource(transport.SourceConfig{Cache: cache, Refresher: keyed, Key: key})
	if err != nil {
		return err
	}
	return source.Logout(ctx)
}

// A nameless Refresher does not say whose logins it renews.
type nameless struct{ transport.Refresher }

func (nameless) Identity() transport.Identity { return transport.Identity{} }
