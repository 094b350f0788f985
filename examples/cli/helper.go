package main

import (
	"context"
	"errors"
	"flag"
	"net/http"
	"net/url"
	"slices"

	"github.com/stayauth/stayauth/transport"
	"github.com/stayauth/stayauth/transport/external"
)

// Helpers give the token to programs that send it themselves. They never ask the user to log
// in: whoever calls them may have no user, or call twenty at once.

func helperFlags(fs *flag.FlagSet, o *options) {
	fs.Var(&o.Origins, "origin", "`origins` that may see the token (default: those of\nlogin)")
	resourceFlag(fs, o)
	showFlag(fs, o)
}

func resourceFlag(fs *flag.FlagSet, o *options) {
	fs.StringVar(&o.resource, "resource", "", "`URL` of the API that the token is for, of those that login\nnamed (default: the one at the address that it goes to)")
}

// destinations returns the origins that may see the token, of which origins are those that may see
// any: a token for a resource alone goes there alone.
func (c *cli) destinations(origins []string) []string {
	if r := c.resourceOf(c.api); r != "" && (c.resource == "" || c.resource == r) {
		return []string{c.api.Scheme + "://" + c.api.Host}
	}
	return origins
}

// isFor reports whether the token may go to an address: whether get would send it there. It
// looks at no login. From then on the token is to be for that address.
func (c *cli) isFor(ctx context.Context, address string) (bool, error) {
	var err error
	if c.api, err = url.Parse(address); err != nil {
		return false, nil
	}
	origins := slices.Clone(c.Origins)
	if c.given == "" && c.Provider != "" && !isURL(c.Provider) { // What an issuer publishes has no origins.
		prov, err := c.findProvider(ctx, c.profile)
		if err != nil {
			return false, err
		}
		origins = append(origins, prov.Origins...)
	}
	if origins = c.destinations(origins); len(origins) == 0 {
		return false, nil
	}
	var base recorder
	rt, err := newRecorder(origins, &base)
	if err != nil {
		return false, err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodHead, address, nil)
	if err != nil {
		return false, nil // It is no address.
	}
	resp, err := rt.RoundTrip(req)
	if err != nil {
		return false, err
	}
	resp.Body.Close()
	return base.authorized, nil
}

// checkOrigins says what is wrong with those that -origin names.
func (c *cli) checkOrigins() error {
	if len(c.Origins) == 0 {
		return nil
	}
	_, err := newRecorder(c.Origins, new(recorder))
	return err
}

// newRecorder returns a Transport with a token that is worth nothing.
func newRecorder(origins []string, base *recorder) (*transport.Transport, error) {
	source, err := transport.NewSource(external.Func("made up", func(context.Context) (transport.Token, error) {
		return transport.Token{AccessToken: "none"}, nil
	}))
	if err != nil {
		return nil, err
	}
	rt, err := transport.New(transport.Config{Source: source, Origins: origins, Base: base})
	if e, ok := errors.AsType[*transport.Error](err); ok {
		return nil, usagef("-origin: %s", e.Remedy)
	}
	return rt, err
}

// A recorder sends nothing, and notices whether there was a token to be sent.
type recorder struct{ authorized bool }

func (r *recorder) RoundTrip(req *http.Request) (*http.Response, error) {
	r.authorized = req.Header.Get("Authorization") != ""
	return &http.Response{StatusCode: http.StatusNoContent, Header: http.Header{}, Body: http.NoBody, Request: req}, nil
}

// useToken passes on an access token that is good now, and shows how long it takes to get it.
// What a refresh leaves to be done is done after that.
func (c *cli) useToken(ctx context.Context, use func(transport.Token) error) error {
	s, source, err := c.openSource(ctx)
	if err != nil {
		return err
	}
	defer s.closeSource(source)
	waiting := s.newProgress("Refreshing your login")
	waiting.start()
	defer waiting.stop()
	token, err := source.Token(ctx)
	waiting.stop()
	if err != nil {
		return err
	}
	if token.Type == "DPoP" {
		return usagef("this login is bound to a key, without which its token is of no use to another program: use 'stayauth get', or log in with -dpop=false")
	}
	return use(token)
}

// checkOutput refuses to show a token to a person who has not asked for that.
func (c *cli) checkOutput() error {
	if isTerminal(c.stdout) && !c.show {
		return usagef("the token would stay on your screen: pipe it to a program, or use -show")
	}
	return nil
}
