package login

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/stayauth/stayauth/tokencache"
	"github.com/stayauth/stayauth/transport"
	"github.com/stayauth/stayauth/transport/internal/idtoken"
	"github.com/stayauth/stayauth/transport/internal/text"
)

// An Account is one of the logins that a program keeps, from which a person may choose.
type Account struct {
	// Key is the key of the login in the cache, and the SourceConfig.Key with which to use
	// it.
	Key tokencache.Key

	// Subject identifies the user at the provider, and never changes: the "sub" of the ID
	// token. It is empty if there is no ID token, which providers send for the scope
	// openid. It makes a good Key.Account for a new login:
	//
	//	key := tokencache.Key{Account: login.AccountOf(tokens).Subject}
	Subject string

	// Name is the user's name: the "preferred_username", "email", "name" or "sub" of the ID
	// token, or else the label of the Key or its account. It is for display only: the ID
	// token is not validated, users can change their names, and two accounts may have the
	// same one.
	Name string

	AuthorizedAt  time.Time // when the user logged in
	LoginRequired bool      // the provider has refused the refresh token
	Copy          bool      // it belongs to another store, see tokencache.Record.IsCopy
}

// AccountOf returns the account of a login, which need not be stored yet.
func AccountOf(rec *tokencache.Record) Account {
	claims := claimsOf(rec.IDToken)
	account, label := rec.Key.Label()
	return Account{
		Key:           rec.Key,
		Subject:       claims.Subject,
		Name:          text.Clean(cmp.Or(claims.Username, claims.Email, claims.Name, claims.Subject, label, account)),
		AuthorizedAt:  rec.AuthorizedAt,
		LoginRequired: rec.Tombstone != nil,
		Copy:          rec.IsCopy(),
	}
}

// Accounts returns the accounts in the cache, sorted by name. Their keys must agree with the
// fields of like that are set, usually Issuer and ClientID.
//
// A login that cannot be read, because it is damaged or the keyring is locked, is reported in
// the error, and the others are returned all the same. The error wraps a *transport.Error of
// kind ErrStorage for each such login.
func Accounts(ctx context.Context, cache *tokencache.Cache, like tokencache.Key) ([]Account, error) {
	var accounts []Account
	var errs []error
	for rec, err := range cache.List(ctx) {
		switch {
		case err != nil:
			errs = append(errs, &transport.Error{Kind: transport.ErrStorage, Op: "list accounts", Err: err})
		case isLogin(rec) && agrees(rec.Key, like):
			accounts = append(accounts, AccountOf(rec))
		}
	}
	slices.SortFunc(accounts, func(a, b Account) int {
		return cmp.Or(strings.Compare(a.Name, b.Name), strings.Compare(a.Key.Name(), b.Key.Name()))
	})
	return accounts, errors.Join(errs...)
}

func agrees(k, like tokencache.Key) bool {
	return (like.Issuer == "" || k.Issuer == like.Issuer) && (like.ClientID == "" || k.ClientID == like.ClientID) &&
		(like.Account == "" || k.Account == like.Account) && (like.Audience == "" || k.Audience == like.Audience)
}

// Choose returns the account that a person calls name: the one with that Key.Account, or else
// the only one with that Name. An empty name means the only account there is, or of several the one
// whose Key.Account is empty: it was made without a name, and cannot be called otherwise.
//
// Errors are *transport.Error: ErrLoginRequired if there is no such account, and
// ErrMisconfigured if there are several.
func Choose(accounts []Account, name string) (Account, error) {
	var found []Account
	for _, a := range accounts {
		if name != "" && a.Key.Account == name {
			return a, nil
		}
		if name == "" || a.Name == name {
			found = append(found, a)
		}
	}
	unnamed := slices.DeleteFunc(slices.Clone(found), func(a Account) bool { return a.Key.Account != "" })
	switch {
	case len(found) == 1:
		return found[0], nil
	case name == "" && len(unnamed) == 1:
		return unnamed[0], nil
	case len(accounts) == 0:
		return Account{}, &transport.Error{Kind: transport.ErrLoginRequired, Op: "choose account", Remedy: "log in"}
	case len(found) == 0:
		return Account{}, &transport.Error{Kind: transport.ErrLoginRequired, Op: "choose account",
			Remedy: fmt.Sprintf("log in as %q, or choose one of %s", text.Clean(name), names(accounts))}
	}
	return Account{}, &transport.Error{Kind: transport.ErrMisconfigured, Op: "choose account",
		Remedy: "choose one of " + names(found)}
}

// names lists the accounts by names that Choose can tell apart.
func names(accounts []Account) string {
	seen := map[string]int{}
	for _, a := range accounts {
		seen[a.Name]++
	}
	var list []string
	for _, a := range accounts {
		name := a.Name
		if seen[name] > 1 || name == "" {
			name = a.Key.Account
		}
		list = append(list, fmt.Sprintf("%q", name))
	}
	return strings.Join(list, ", ")
}

// claims are the claims of an ID token that say who the user is (OpenID Connect Core section
// 5.1).
type claims struct {
	Subject  string `json:"sub"`
	Username string `json:"preferred_username"`
	Email    string `json:"email"`
	Name     string `json:"name"`
}

// claimsOf returns the claims without validating them. Those that cannot be read are empty.
func claimsOf(idToken tokencache.Secret) claims {
	var c claims
	if !idtoken.Claims(idToken, &c) {
		return claims{}
	}
	return c
}
