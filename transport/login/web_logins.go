package login

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/stayauth/stayauth/tokencache"
	"github.com/stayauth/stayauth/transport"
	"github.com/stayauth/stayauth/transport/internal/text"
)

// Logins returns the user's logins with this provider, ordered by label. Account.Key.Account
// is the account of each in the Pool, and the second result of Account.Key.Label its label.
// The logins of other users are not opened.
//
// A login that cannot be read is reported in the error, and the others are returned all the
// same. If the store cannot list its entries, only the login without a label is returned, and
// the error wraps errors.ErrUnsupported.
func (web *Web) Logins(ctx context.Context, user string) ([]Account, error) {
	if err := checkUser(user); err != nil {
		return nil, err
	}
	var accounts []Account
	var errs []error
	rec, err := web.stored(ctx, user, "")
	if err != nil {
		errs = append(errs, err)
	} else if rec != nil {
		accounts = append(accounts, AccountOf(rec))
	}
	key := web.key
	key.Account = user
	for rec, err := range web.cfg.Cache.Labeled(ctx, key) {
		switch {
		case err != nil:
			errs = append(errs, &transport.Error{Kind: transport.ErrStorage, Op: "list accounts", Err: err})
		default:
			accounts = append(accounts, AccountOf(rec))
		}
	}
	slices.SortFunc(accounts, func(a, b Account) int { return cmp.Compare(a.Key.Account, b.Key.Account) })
	return accounts, errors.Join(errs...)
}

// isLogin reports whether a record in the cache is a login and not a journal.
func isLogin(rec *tokencache.Record) bool { return !strings.HasSuffix(rec.Key.Issuer, journalIssuer) }

// Erase ends all logins of a user of the application, with all these providers, as Disconnect
// does, and removes everything else that is kept about the user. It goes on when one fails; the
// error then says which logins are left, and Erase can be called again. A login with a provider
// that has no way to revoke tokens is removed, and WebConfig.OnEvent tells that its tokens live
// on.
func Erase(ctx context.Context, user string, webs ...*Web) error {
	if err := checkUser(user); err != nil { // The account "" is nobody's, but a Pool may have it.
		return err
	}
	var errs []error
	for _, web := range webs {
		if err := web.erase(ctx, user); err != nil {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

func (web *Web) erase(ctx context.Context, user string) error {
	j, err := web.openJournal(ctx, user) // so that no answer makes a login meanwhile
	if err != nil {
		return fmt.Errorf("the logins with %s are still there: %w", web.name(), err)
	}
	defer j.close()
	var errs []error
	accounts, err := web.Logins(ctx, user)
	if err != nil && !errors.Is(err, errors.ErrUnsupported) {
		errs = append(errs, fmt.Errorf("not all logins with %s are known: %w", web.name(), err))
	}
	for _, a := range accounts {
		_, label := a.Key.Label()
		if err := web.disconnect(ctx, user, label); err != nil && !errors.Is(err, errors.ErrUnsupported) {
			if label != "" {
				label = fmt.Sprintf(" (%q)", text.Clean(label))
			}
			errs = append(errs, fmt.Errorf("%s%s is still connected: %w", web.name(), label, err))
		}
	}
	if err := web.cfg.Cache.Delete(ctx, j.key, j.version); err != nil {
		errs = append(errs, storageFailure(err))
	}
	return errors.Join(errs...)
}
