package main

import (
	"context"
	"errors"

	"github.com/stayauth/stayauth/tokencache"
)

// adopt and discard decide about logins that came here with a backup or a copied
// directory. Until then nothing of them is used, because that could end them elsewhere.

func (c *cli) adopt(ctx context.Context, _ []string) error {
	return c.decide(ctx, (*tokencache.Cache).Adopt, "Adopted: %s. Use them only here from now on.\n")
}

func (c *cli) discard(ctx context.Context, _ []string) error {
	return c.decide(ctx, (*tokencache.Cache).Discard, "Removed here: %s. Where they were copied from, they live on.\n")
}

func (c *cli) decide(ctx context.Context, decision func(*tokencache.Cache, context.Context) (int, error), done string) error {
	s := &session{cli: c}
	if err := s.openCache(ctx); err != nil {
		return err
	}
	n, err := decision(s.cache, ctx)
	switch {
	case n > 0:
		s.say(done, logins(n))
	case err == nil:
		s.say("There are no logins here that were copied from elsewhere.\n")
	}
	return err
}

// sayCopied says what to do about err, if it is about a copied login.
func (c *cli) sayCopied(err error) {
	if errors.Is(err, tokencache.ErrCopy) {
		c.say("To use your logins here from now on, and nowhere else, run 'stayauth adopt'. To remove them here, run 'stayauth discard'.\n")
	}
}
