package main

import (
	"context"
	"os"

	"github.com/stayauth/stayauth/transport"
	"github.com/stayauth/stayauth/transport/external"
	"github.com/stayauth/stayauth/transport/provider"
)

// openGiven returns the Source of a token that the environment gives. It is used and not
// stored. What login remembers, the origins above all, is not for this token.
func (c *cli) openGiven() (*session, *transport.Source, error) {
	cfg := external.Env(tokenVar)
	if c.given == tokenFileVar {
		cfg = external.File(os.Getenv(tokenFileVar))
	}
	cfg.Logger, cfg.OnEvent = c.logger(), c.onEvent
	source, err := transport.NewSource(cfg)
	return &session{cli: c, client: client{provider: new(provider.Provider)}}, source, err
}

// notGiven refuses what is about a login if the environment gives a token.
func (c *cli) notGiven() error {
	if c.given == "" {
		return nil
	}
	return usagef("%s is set, and its token is used instead of a login: unset it first", c.given)
}

func (c *cli) statusOfGiven(ctx context.Context) error {
	s, source, err := c.openGiven()
	if err != nil {
		return err
	}
	defer s.closeSource(source)
	token, err := source.Token(ctx)
	if err != nil {
		return err
	}
	return s.print("%s %s\n%s %s\n%s %s\n", s.paintOut(bold, "token    "), expiry(token.Expiry),
		s.paintOut(bold, "from     "), s.given, s.paintOut(bold, "kept     "), "nowhere")
}
