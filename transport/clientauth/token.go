package clientauth

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/stayauth/stayauth/tokencache"
	"github.com/stayauth/stayauth/transport/endpoint"
	"github.com/stayauth/stayauth/transport/internal/smallfile"
	"github.com/stayauth/stayauth/transport/internal/statement"
)

// A Token authenticates a client by a statement that its platform has made (RFC 7523 section
// 2.2), such as the token of a Kubernetes service account. It is called for every request, and
// returns the statement that is good now.
type Token func(ctx context.Context) (tokencache.Secret, error)

// TokenFile returns a Token that reads the statement from a file each time: whoever writes it
// has to replace it before it expires.
func TokenFile(path string) Token {
	return func(context.Context) (tokencache.Secret, error) {
		data, err := smallfile.Read(path)
		if err != nil {
			return "", fmt.Errorf("%s: %w", path, err)
		}
		return tokencache.Secret(data), nil
	}
}

// Method implements endpoint.ClientAuth: to the provider this is the signature of a private key
// that somebody else holds.
func (t Token) Method() string { return "private_key_jwt" }

// Authenticate implements endpoint.ClientAuth.
func (t Token) Authenticate(ctx context.Context, r *endpoint.AuthRequest) error {
	if t == nil {
		return statement.Misconfigured("Token", "set it: TokenFile returns such a function", nil)
	}
	token, err := t(ctx)
	if err != nil {
		return statement.Unavailable(err, "the token of the platform cannot be had")
	}
	text := strings.TrimSpace(string(token))
	if text == "" {
		return statement.Unavailable(errors.New("it is empty"), "the token of the platform cannot be had")
	}
	if !isToken(text) {
		return statement.Misconfigured("Token", "use a JSON Web Token: this is something else, and was not sent", nil)
	}
	assert(r, text)
	return nil
}

// isToken reports whether s has the form of a JSON Web Token, signed or encrypted (RFC 7519
// section 7.2), unlike the private key that somebody might name by mistake.
func isToken(s string) bool {
	const chars = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_."
	dots := strings.Count(s, ".")
	return (dots == 2 || dots == 4) && !strings.ContainsFunc(s, func(c rune) bool { return !strings.ContainsRune(chars, c) })
}
