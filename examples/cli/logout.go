package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"strings"

	"github.com/stayauth/stayauth/tokencache"
	"github.com/stayauth/stayauth/transport"
	"github.com/stayauth/stayauth/transport/login"
)

func logoutFlags(fs *flag.FlagSet, o *options) {
	fs.BoolVar(&o.all, "all", false, "end all logins, of every account and profile")
	fs.BoolVar(&o.local, "local", false, "remove the login here, and tell the provider nothing:\nit lives on there; with -all even what cannot be read")
}

func (c *cli) logout(ctx context.Context, _ []string) error {
	if c.all && c.local {
		return c.removeAll(ctx)
	}
	if c.all {
		return c.logoutEverywhere(ctx)
	}
	s, err := c.open(ctx)
	if err != nil {
		return err
	}
	return s.end(ctx)
}

// removeAll removes all logins here, also those that cannot be read.
func (c *cli) removeAll(ctx context.Context) error {
	if err := c.storage().Discard(ctx); err != nil {
		return err
	}
	c.say("All logins were removed here. They live on at their providers.\n")
	return nil
}

// endFormer ends the login in use, if there is one. A login that follows would only take its
// place here: at the provider it would live on. It cannot be ended afterwards, because for some
// providers the two are one.
func (s *session) endFormer(ctx context.Context) error {
	_, err := s.account(ctx)
	if errors.Is(err, transport.ErrLoginRequired) || errors.Is(err, tokencache.ErrCorrupt) {
		return nil
	}
	if err != nil {
		return err
	}
	return s.end(ctx)
}

// end ends the login in use.
func (s *session) end(ctx context.Context) error {
	account, err := s.account(ctx)
	if s.local && errors.Is(err, tokencache.ErrCorrupt) { // To be removed it need not be read.
		account, err = login.Account{Key: tokencache.Key{Account: s.Account}}, nil
	}
	if err != nil {
		return err
	}
	source, err := s.source(account.Key)
	if err != nil {
		return err
	}
	defer s.closeSource(source)
	end, where := source.Logout, "here and at "+s.provider.Name
	if s.local {
		end, where = source.Forget, "here only: it lives on at "+s.provider.Name
	} else if s.endpoint.RevocationURL == "" {
		where = "here. " + s.provider.Name + " has no way to be told"
	}
	if err := end(ctx); err != nil {
		return fmt.Errorf("%w\nYou are still logged in. To remove the login here all the same, use 'stayauth logout -local'", err)
	}
	s.say("The login%s has ended, %s.\n", of(account.Name), strings.TrimSuffix(where, "."))
	return nil
}

func of(name string) string {
	if name == "" {
		return ""
	}
	return " of " + name
}

// logoutEverywhere needs no provider: it looks for that of each login among the
// profiles.
func (c *cli) logoutEverywhere(ctx context.Context) error {
	s := &session{cli: c}
	if err := s.openCache(ctx); err != nil {
		return err
	}
	settings, err := c.loadSettings()
	if err != nil {
		return err
	}
	known := []profile{c.profile}
	for _, p := range settings.Profiles {
		known = append(known, p)
	}
	err = login.LogoutEverywhere(ctx, s.cache, func(key tokencache.Key) (transport.Refresher, error) {
		var unknown error = usagef("no profile knows this provider: log out with -provider and -client-id")
		for _, p := range known {
			if p.ClientID != key.ClientID {
				continue
			}
			p.Robot = strings.Contains(key.Issuer, "#") // also if the profile is another's by now
			known, err := c.client(ctx, p)
			if err == nil && known.refresher.Identity().Key.Issuer == key.Issuer {
				return known.refresher, nil
			}
			if err != nil {
				unknown = err
			}
		}
		return nil, unknown
	})
	if err != nil {
		return err
	}
	s.say("All logins have ended.\n")
	return nil
}
