package clientauth

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/stayauth/stayauth/tokencache"
	"github.com/stayauth/stayauth/transport/endpoint"
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
		data, err := readFile(path)
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
	token, err := t(ctx)
	if err != nil {
		return statement.Unavailable(err, "the token of the platform cannot be had")
	}
	text := strings.TrimSpace(string(token))
	if text == "" {
		return statement.Unavailable(errors.New("it is empty"), "the token of the platform cannot be had")
	}
	assert(r, text)
	return nil
}
