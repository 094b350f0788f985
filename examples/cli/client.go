package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/url"
	"os"
	"runtime"
	"strings"

	"github.com/stayauth/stayauth/tokencache"
	"github.com/stayauth/stayauth/transport"
	"github.com/stayauth/stayauth/transport/clientauth"
	"github.com/stayauth/stayauth/transport/endpoint"
	"github.com/stayauth/stayauth/transport/grants"
	"github.com/stayauth/stayauth/transport/provider"
)

// A client is what a profile is at its provider.
type client struct {
	provider  *provider.Provider
	endpoint  *endpoint.Endpoint
	refresher transport.Refresher // the endpoint, or what obtains the tokens of a robot
}

// client returns the client that p describes.
func (c *cli) client(ctx context.Context, p profile) (client, error) {
	prov, err := c.findProvider(ctx, p)
	if err != nil {
		return client{}, err
	}
	if p.Provider == "google" && p.KeyFile != "" {
		return googleRobot(prov, p)
	}
	if p.ClientID == "" {
		return client{}, usagef("-client-id is missing: the provider has to know this program")
	}
	secret, missing := c.secret(ctx, p)
	e := prov.Endpoint(p.ClientID, tokencache.Secret(secret), p.Scopes...)
	switch {
	case missing != nil:
		e.ClientAuth, e.AuthMethods = unproven{missing}, nil
	case p.KeyFile != "":
		auth := &clientauth.PrivateKey{Key: privateKey(p)}
		if name, _, _ := strings.Cut(p.Provider, ":"); name == "okta" || name == "microsoft" {
			auth.EndpointAudience = true
		}
		e.ClientAuth = auth
	case p.TokenFile != "":
		e.ClientAuth = clientauth.TokenFile(p.TokenFile)
	}
	e.Params = url.Values{}
	for _, param := range p.Params {
		name, value, ok := strings.Cut(param, "=")
		if !ok {
			return client{}, usagef("-param is NAME=VALUE, not %q", param)
		}
		e.Params.Add(name, value)
	}
	if p.Robot && len(p.Resources) > 0 {
		return client{}, usagef("-resource is for logins of users: a program for itself says -param resource=URL")
	}
	if p.DPoP || !p.Robot { // A user may have logins that are bound, and others.
		e.DPoP = new(endpoint.DPoP)
	}
	if p.Robot {
		return client{prov, e, e.ClientCredentials()}, nil
	}
	return client{prov, e, e}, nil
}

// resourceOf returns which of the resources is the API at an address, "" if it is none of them.
func (p *profile) resourceOf(api *url.URL) (longest string) {
	if api == nil {
		return ""
	}
	for _, r := range p.Resources {
		u, err := url.Parse(r)
		if err == nil && u.Scheme == api.Scheme && u.Host == api.Host && strings.HasPrefix(api.Path+"/", strings.TrimSuffix(u.Path, "/")+"/") && len(r) > len(longest) {
			longest = r
		}
	}
	return longest
}

// target returns what renews the token for the resource that is named, or that is at the address
// that the token goes to.
func (s *session) target() transport.Refresher {
	if r := cmp.Or(s.resource, s.resourceOf(s.api)); r != "" {
		return s.endpoint.For(url.Values{"resource": {r}})
	}
	return s.refresher
}

// googleRobot returns a service account of Google, which is in its key file.
func googleRobot(prov *provider.Provider, p profile) (client, error) {
	if !p.Robot {
		return client{}, usagef("a service account of Google is no user: use -flow client-credentials")
	}
	if p.DPoP {
		return client{}, usagef("-dpop: Google has no tokens that are bound to a key")
	}
	if len(p.Scopes) == 0 {
		return client{}, usagef("-scope is missing: Google wants to know what a service account is about to do")
	}
	if err := checkMode(p.KeyFile); err != nil {
		return client{}, err
	}
	r, err := grants.GoogleServiceAccount{File: p.KeyFile, Scopes: p.Scopes}.Refresher()
	if err != nil {
		return client{}, keyError(err)
	}
	e := prov.Endpoint(r.Identity().Key.ClientID, "", p.Scopes...)
	e.RevocationURL = "" // That one is for the tokens of users.
	return client{prov, e, r}, nil
}

// privateKey returns what reads the key of p whenever the client proves who it is.
func privateKey(p profile) func(context.Context) (*clientauth.Key, error) {
	read := clientauth.KeyFile(p.KeyFile, p.KeyID)
	return func(ctx context.Context) (*clientauth.Key, error) {
		if err := checkMode(p.KeyFile); err != nil {
			return nil, err
		}
		return read(ctx)
	}
}

// checkMode refuses a private key that every user of the machine can read. Those of the group
// may: Kubernetes gives them the files of a volume.
func checkMode(file string) error {
	info, err := os.Stat(file)
	if err != nil || !info.Mode().IsRegular() || runtime.GOOS == "windows" || info.Mode().Perm()&0o007 == 0 {
		return nil // What reads it says why it cannot.
	}
	return &transport.Error{Kind: transport.ErrMisconfigured, Op: "private key", Remedy: "chmod 600 " + file,
		Err: fmt.Errorf("%s has mode %#o, which lets every user of this machine read it", file, info.Mode().Perm())}
}

// checkKey says at once what is wrong with the secret or the private key of the client, if it has
// one, and if a robot has nothing that says who it is.
func (s *session) checkKey(ctx context.Context) error {
	if s.Robot && s.endpoint.ClientAuth == nil && s.endpoint.ClientSecret == "" && s.KeyFile == "" {
		return usagef("-client-key-file is missing, or another way to say who the program is: -client-token-file, -client-secret-file")
	}
	switch auth := s.endpoint.ClientAuth.(type) {
	case unproven:
		return auth.error
	case *clientauth.PrivateKey:
		_, err := auth.Key(ctx)
		return keyError(err)
	}
	return nil
}

// keyError says in the words of this program what is wrong with a key file: nobody knows here
// which field of the library has it.
func keyError(err error) error {
	e, ok := errors.AsType[*transport.Error](err)
	switch {
	case !ok || e.Field == "":
		return err
	case e.Err == nil:
		return usagef("the private key cannot be used: %s", e.Remedy)
	}
	return usagef("the private key cannot be used: %v", e.Err)
}

// checkProofs reports whether several ways are named for the client to prove who it is.
func (c *cli) checkProofs() error {
	n := 0
	for _, proof := range []string{c.clientSecret, c.SecretFile, c.KeyFile, c.TokenFile} {
		if proof != "" {
			n++
		}
	}
	if n > 1 {
		return usagef("%s, -client-secret-file, -client-key-file and -client-token-file are ways for the client to prove who it is: use one of them", secretVar)
	}
	return nil
}

// proveAs takes from a profile how the client proves who it is, unless that is said now.
func (c *cli) proveAs(saved profile) {
	if c.KeyFile != "" || c.TokenFile != "" {
		return
	}
	c.SecretFile, c.Confidential = cmp.Or(c.SecretFile, saved.SecretFile), saved.Confidential
	if c.clientSecret == "" && c.SecretFile == "" {
		c.KeyFile, c.KeyID, c.TokenFile = saved.KeyFile, cmp.Or(c.KeyID, saved.KeyID), saved.TokenFile
	}
}

// secret returns the client secret of p, "" if it has none. What the environment says
// is for the client that this run is about, and for no other.
func (c *cli) secret(ctx context.Context, p profile) (string, error) {
	switch {
	case p.KeyFile != "", p.TokenFile != "":
		return "", nil
	case c.clientSecret != "" && p.isClientOf(c.profile):
		return c.clientSecret, nil
	case p.SecretFile != "":
		b, err := c.readFile(ctx, p.SecretFile)
		if err != nil {
			return "", usagef("the client secret cannot be read: %v", err)
		}
		return strings.TrimSpace(string(b)), nil
	case p.Confidential:
		return "", usagef("the client secret is missing that this login was made with; set %s or use -client-secret-file", secretVar)
	}
	return "", nil
}

// unproven stands for a client secret that is missing. A token that is good needs none.
type unproven struct{ error }

func (unproven) Method() string { return "client_secret_basic" }

func (u unproven) Authenticate(context.Context, *endpoint.AuthRequest) error {
	return &transport.Error{Kind: transport.ErrMisconfigured, Err: u.error}
}
