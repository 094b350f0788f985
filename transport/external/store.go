package external

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/stayauth/stayauth/tokencache"
	"github.com/stayauth/stayauth/tokencache/gate"
	"github.com/stayauth/stayauth/transport"
	"github.com/stayauth/stayauth/transport/internal/bearer"
	"github.com/stayauth/stayauth/transport/internal/idtoken"
)

// A store is a tokencache.Store of one entry, which somebody else writes: to a Source, the one
// who renews the token is another process that shares the login, and is faster. So the Source
// finds out by itself when to look, and nothing is ever saved.
type store struct {
	where string
	key   tokencache.Key
	read  func(context.Context) (transport.Token, error)

	turn gate.Gates // guards what follows

	memory  tokencache.Memory
	records *tokencache.Cache        // on memory; turns records into entries
	last    func() tokencache.Record // what it holds; a function, of which fmt shows no token
	version tokencache.Version
}

// readInterval is how long a token is used before it is read again although it is good: the one
// that replaces it may be there long before it ends, and it may end before its time.
const readInterval = time.Minute

// loginPrefix begins the LoginID of each record here, and of no login.
const loginPrefix = "external "

// Load reads the token. The record has a new LoginID whenever the Source is to take it for news.
func (s *store) Load(ctx context.Context, name string) ([]byte, tokencache.Version, error) {
	if name != s.key.Name() {
		return nil, "", s.fail("load", "it belongs to the program, and not to one of several accounts: use a Source of its own")
	}
	leave, err := s.turn.Enter(ctx, "")
	if err != nil {
		return nil, "", err
	}
	defer leave()
	tok, err := s.token(ctx)
	if err != nil {
		return nil, "", err
	}
	now := time.Now().Round(0)
	last := s.last()
	next := last
	if tok.AccessToken != last.AccessToken || !tok.Expiry.Equal(last.Expiry) {
		next = tokencache.Record{AccessToken: tok.AccessToken, TokenType: tok.Type, Expiry: tok.Expiry, Scope: tok.Scope,
			ObtainedAt: now, Generation: last.Generation + 1}
	} else if now.Before(last.RefreshAt) && last.RefreshAt.Before(now.Add(2*readInterval)) { // unless the clock was set back
		return s.memory.Load(ctx, name)
	}
	next.LoginID, next.RefreshAt = loginPrefix+rand.Text(), now.Add(readInterval)
	v, err := s.records.Save(ctx, s.key, &next, s.version)
	if err != nil {
		return nil, "", err
	}
	s.last, s.version = func() tokencache.Record { return next }, v
	return s.memory.Load(ctx, name)
}

// token returns the token as it is now.
func (s *store) token(ctx context.Context) (transport.Token, error) {
	tok, err := s.read(ctx)
	remedy := ""
	switch {
	case err != nil:
	case tok.AccessToken == "":
		err = errors.New("there is none")
	case strings.ContainsFunc(string(tok.AccessToken), func(c rune) bool { return c <= ' ' || c >= 0x7f }): // RFC 6750 section 2.1
		err = errors.New("there is something else than just a token")
	default:
		remedy = bearer.Normalize(&tok.Type, false)
	}
	if err != nil {
		return tok, &transport.Error{Kind: transport.ErrUnavailable, Op: "token", Err: fmt.Errorf("the token %s: %w", s.where, err),
			Remedy: "whoever writes it has to put one there"}
	}
	if remedy != "" {
		return tok, s.fail("token", remedy)
	}
	if tok.Expiry.IsZero() {
		tok.Expiry = expiry(tok.AccessToken)
	}
	tok.Expiry = tok.Expiry.Round(0)
	return tok, nil
}

// expiry returns when a JWT says that it expires (RFC 7519 section 4.1.4), or the zero Time.
// Nothing but the time of reading it again depends on that.
func expiry(token tokencache.Secret) time.Time {
	var claims struct {
		Expiry float64 `json:"exp"`
	}
	const last = 253402300799 // 9999-12-31
	if !idtoken.Claims(token, &claims) || !(claims.Expiry > 0 && claims.Expiry <= last) {
		return time.Time{}
	}
	return time.Unix(int64(claims.Expiry), 0)
}

// Save refuses: this is what a Source would have to do to store a token.
func (s *store) Save(context.Context, string, []byte, tokencache.Version) (tokencache.Version, error) {
	return "", s.fail("save", "it is never stored")
}

func (s *store) Delete(context.Context, string, tokencache.Version) error {
	return s.fail("logout", "it cannot be ended here: whoever writes it has to do that")
}

// Lock keeps nobody out, because nothing is spent.
func (s *store) Lock(ctx context.Context, _ string) (unlock func() error, err error) {
	return func() error { return nil }, ctx.Err()
}

func (s *store) Confidential() bool { return true } // It is in memory.

func (s *store) fail(op, remedy string) error {
	return &transport.Error{Kind: transport.ErrMisconfigured, Op: op, Err: errors.New("the token is " + s.where), Remedy: remedy}
}
