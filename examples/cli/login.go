package main

import (
	"cmp"
	"context"
	"errors"
	"flag"
	"fmt"
	"time"

	"github.com/stayauth/stayauth/tokencache"
	"github.com/stayauth/stayauth/transport"
	"github.com/stayauth/stayauth/transport/login"
)

func loginFlags(fs *flag.FlagSet, o *options) {
	apiFlags(fs, o)
	fs.StringVar(&o.RedirectURL, "redirect-url", "", "`URL` of this machine that is registered at the\nprovider (default: any port of 127.0.0.1)")
	fs.StringVar(&o.flow, "flow", "", "`way` to log in: browser, device (enter a code\nelsewhere), paste (an address), client-credentials (the\nprogram for itself, without a user), or auto (default\nauto, or client-credentials if it was that before)")
	fs.Var(&o.Resources, "resource", "`URL` of an API that wants tokens for itself alone (RFC\n8707); can be repeated, and the address of a request says\nwhich of them it is for")
	fs.BoolVar(&o.DPoP, "dpop", false, "bind the login to a key of its own, so that its tokens\nare of no use to a thief (DPoP); the provider has to know\nthat, and so have the APIs")
	fs.BoolVar(&o.reset, "reset", false, "start over: end the login in use first, at the provider\ntoo; and if logins cannot be read any more, because the\nkey to them is gone, remove all of them here")
	fs.StringVar(&o.loginHint, "login-hint", "", "user `name` to suggest to the provider")
	fs.DurationVar(&o.timeout, "timeout", 10*time.Minute, "`time` that you have (default 10m)")
}

var flows = map[string]func(context.Context, login.Config) (*tokencache.Record, error){
	"auto": login.Auto, "browser": login.Loopback, "device": login.Device, "paste": login.Paste,
}

// robotFlow is the way of a program that acts for itself (RFC 6749 section 4.4).
const robotFlow = "client-credentials"

func (c *cli) login(ctx context.Context, _ []string) error {
	if err := c.notGiven(); err != nil {
		return err
	}
	if c.flow != "" {
		c.Robot = c.flow == robotFlow
	} else if c.Robot {
		c.named = c.Account // Nobody else says who it acts for.
	}
	flow := flows[cmp.Or(c.flow, "auto")]
	if flow == nil && !c.Robot {
		return usagef("-flow is auto, browser, device, paste or client-credentials, not %q", c.flow)
	}
	if c.Provider == "" {
		return usagef("where do you log in? Use -provider or -issuer")
	}
	if err := c.checkOrigins(); err != nil {
		return err
	}
	s, err := c.open(ctx)
	if c.reset && errors.Is(err, tokencache.ErrCorrupt) {
		if err = c.removeAll(ctx); err == nil {
			s, err = c.open(ctx)
		}
	}
	if err != nil {
		return err
	}
	if err := s.checkKey(ctx); err != nil {
		return err
	}
	if err := c.checkSettings(); err != nil {
		return err
	}
	if c.reset {
		if err := s.endFormer(ctx); err != nil {
			return err
		}
	}
	if !c.DPoP {
		s.endpoint.DPoP = nil
	}
	var tokens *tokencache.Record
	if c.Robot {
		tokens, err = s.refresher.Refresh(ctx, &tokencache.Record{Key: tokencache.Key{Account: s.named}})
	} else {
		tokens, err = s.askUser(ctx, flow, login.Config{Cause: s.demanded(ctx)})
	}
	if err != nil {
		return err
	}

	account := login.AccountOf(tokens)
	key := tokencache.Key{Account: cmp.Or(s.named, account.Subject)}
	source, err := s.source(key)
	if err == nil {
		defer s.closeSource(source)
		err = source.Login(ctx, tokens)
	}
	if c.reset && errors.Is(err, tokencache.ErrCorrupt) {
		if err = source.Forget(ctx); err == nil {
			err = source.Login(ctx, tokens)
		}
	}
	if err != nil {
		return s.undo(tokens, err)
	}
	s.ClientID = s.endpoint.ClientID
	if err := s.remember(key.Account); err != nil {
		return fmt.Errorf("you are logged in, but the settings could not be stored: %w", err)
	}
	name := cmp.Or(s.named, account.Name)
	if c.Robot {
		name = cmp.Or(name, s.ClientID)
	}
	s.say("%s\n", s.paint(green, "Logged in"+as(name)+"."))
	if tokens.RefreshToken == "" && !c.Robot {
		s.say("The provider has given no refresh token, so this login ends with its access token.\n")
	}
	return nil
}

// askUser lets the user log in. conf says why, if there is a reason.
func (s *session) askUser(ctx context.Context, flow func(context.Context, login.Config) (*tokencache.Record, error), conf login.Config) (*tokencache.Record, error) {
	waiting := s.newProgress("Waiting for you to log in")
	defer waiting.stop()
	conf.Provider, conf.Endpoint, conf.Cache = s.provider, s.endpoint, s.cache
	conf.RedirectURL, conf.Timeout = s.RedirectURL, s.timeout
	conf.In, conf.Out = waiting.until(s.stdin), s.stderr
	conf.OnPrompt = func(login.Prompt) { waiting.start() }
	conf.AuthParams = map[string][]string{}
	if s.loginHint != "" {
		conf.AuthParams["login_hint"] = []string{s.loginHint}
	}
	if len(s.Resources) > 0 {
		conf.AuthParams["resource"] = s.Resources
	}
	return flow(ctx, conf)
}

func as(name string) string {
	if name == "" {
		return ""
	}
	return " as " + name
}

// undo ends a login that could not be stored: nobody would ever log it out.
func (s *session) undo(tokens *tokencache.Record, cause error) error {
	ctx, cancel := context.WithTimeout(context.Background(), closeTimeout)
	defer cancel()
	provider, ok := s.refresher.(transport.Revoker)
	if !ok {
		return cause
	}
	if err := provider.Revoke(ctx, tokens); err != nil {
		return fmt.Errorf("%w; the provider could not be told: %w", cause, err)
	}
	return cause
}
