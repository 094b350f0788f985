// Package external is for tokens that something else obtains and renews: a CI system, which
// puts one into the environment of a job, or a sidecar, which keeps one in a file. They are
// used and never stored:
//
//	source, err := transport.NewSource(external.File("/var/run/secrets/api/token"))
//
// The Source reads the token again once a minute, when it has expired, and when an API rejects
// it, so a Transport repeats the request with the token that is there by then. Until there is
// another one, the error of kind ErrUnavailable says which token it is, and that whoever writes
// it has to renew it; a login is never required. If the token is a JWT, the time of its expiry
// is read from it, without validating it; otherwise it is good until an API rejects it.
//
// Source.Login, Logout and Forget return an error: such a token begins and ends elsewhere.
package external

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/stayauth/stayauth/tokencache"
	"github.com/stayauth/stayauth/transport"
)

// File returns the configuration of a Source whose token is in a file, with nothing else but
// white space around it. A program that replaces the file while it is read should do so by a
// rename.
func File(path string) transport.SourceConfig {
	return Func("in the file "+path, func(context.Context) (transport.Token, error) { return readFile(path) })
}

// Env returns the configuration of a Source whose token is in an environment variable.
func Env(name string) transport.SourceConfig {
	return Func("in the environment variable "+name, func(context.Context) (transport.Token, error) {
		return transport.Token{AccessToken: tokencache.Secret(os.Getenv(name))}, nil
	})
}

// Func returns the configuration of a Source whose token comes from a function. Where says, in
// errors, where the token is: "in the file x" or "of the metadata server". The function is not
// called twice at the same time, and at most ten times a second. Its errors must hold no secret.
// Of its token only AccessToken is needed.
//
// The fields of the configuration other than Cache, Refresher and Key may be changed. It is for
// NewSource: in a Pool all accounts would be one.
func Func(where string, token func(context.Context) (transport.Token, error)) transport.SourceConfig {
	key := tokencache.Key{Issuer: "external", ClientID: where}
	s := &store{where: where, read: token, key: key, last: func() (none tokencache.Record) { return none }}
	var err error
	if s.records, err = tokencache.New(&s.memory, nil); err != nil {
		panic(err) // Memory is Confidential.
	}
	cache, err := tokencache.New(s, nil)
	if err != nil {
		panic(err) // So is a store.
	}
	return transport.SourceConfig{Cache: cache, Refresher: s.refresher(), Key: key}
}

// maxFile is more than any server accepts in a header.
const maxFile = 64 << 10

func readFile(path string) (transport.Token, error) {
	info, err := os.Stat(path)
	if err == nil && !info.Mode().IsRegular() { // Opening a pipe may wait for ever.
		err = fmt.Errorf("%s is not a regular file", path)
	}
	if err != nil {
		return transport.Token{}, err
	}
	f, err := os.Open(path)
	if err != nil {
		return transport.Token{}, err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err == nil && len(b) > maxFile {
		err = errors.New("it is too long to be a token")
	}
	return transport.Token{AccessToken: tokencache.Secret(strings.TrimSpace(string(b)))}, err
}
