package main

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/stayauth/stayauth/tokencache"
	"github.com/stayauth/stayauth/transport"
)

const gitHelp = `Git-credential gives the token to git, for the https addresses of -origin, here or for
login, and of no other. When the server has refused it, the next one is newer. It
never asks you to log in, and stores nothing. For one host, in the place of all other
helpers, which may store what they hear of:

  git config --global credential.https://gitlab.com.helper ''
  git config --global --add credential.https://gitlab.com.helper '!stayauth git-credential'

ACTION is what git adds: get, store or erase.
`

func gitFlags(fs *flag.FlagSet, o *options) {
	helperFlags(fs, o)
	fs.StringVar(&o.username, "username", "oauth2", "user `name` that goes with the token: oauth2 for GitLab,\nx-token-auth for Bitbucket, any for GitHub (default\noauth2)")
}

// A gitRequest is what git says to a helper, see git-credential(1).
type gitRequest struct {
	protocol, host string
	password       tokencache.Secret // or the credential of another scheme than Basic
	authtype       bool              // git can send other schemes than Basic, since 2.46
	challenges     []string          // of the server, since 2.41
}

func (c *cli) gitCredential(ctx context.Context, args []string) error {
	if err := c.checkOutput(); err != nil {
		return err
	}
	in, err := c.openFile(ctx, "-")
	if err != nil {
		return err
	}
	asked, err := readGit(in)
	if err != nil {
		return err
	}
	address, ok := asked.address()
	if args[0] != "get" && args[0] != "erase" || !ok {
		return nil // The next helper may do what this one does not.
	}
	if listed, err := c.isFor(ctx, address); !listed || err != nil {
		c.logger().Debug("this is not for stayauth: see -origin", "host", asked.host)
		return err
	}
	if args[0] == "erase" {
		return c.rejected(ctx, asked)
	}
	return c.useToken(ctx, func(token transport.Token) error {
		text, err := asked.answer(c.username, token)
		if err != nil {
			return err
		}
		return c.print("%s", text)
	})
}

// rejected replaces a token that a server has refused, if it has not been replaced already, and if
// that helps.
func (c *cli) rejected(ctx context.Context, g gitRequest) error {
	if g.password == "" {
		return nil
	}
	s, source, err := c.openSource(ctx)
	if err != nil {
		return err
	}
	defer s.closeSource(source)
	_, err = source.Reject(ctx, transport.Token{AccessToken: g.password}, transport.ParseChallenges(http.Header{"Www-Authenticate": g.challenges})...)
	return err
}

// answer returns what gives git the token: as a password or, if git can do that and the server
// wants no password, under its own scheme.
func (g gitRequest) answer(username string, token transport.Token) (string, error) {
	attributes := []string{"username=" + username, "password=" + string(token.AccessToken)}
	basic := func(challenge string) bool { return len(challenge) >= 5 && strings.EqualFold(challenge[:5], "basic") }
	if g.authtype && len(g.challenges) > 0 && !slices.ContainsFunc(g.challenges, basic) {
		attributes = []string{"capability[]=authtype", "authtype=" + token.Type, "credential=" + string(token.AccessToken), "ephemeral=1"}
	}
	if !token.Expiry.IsZero() {
		attributes = append(attributes, fmt.Sprint("password_expiry_utc=", token.Expiry.Unix()))
	}
	text := strings.Join(attributes, "\n")
	if strings.ContainsAny(text, "\r\x00") || strings.Count(text, "\n") != len(attributes)-1 {
		return "", usagef("neither a user name nor a token has more than one line")
	}
	return text + "\n", nil
}

// address returns where git sends the credentials, if it is plainly a host and nothing more.
func (g gitRequest) address() (string, bool) {
	address := g.protocol + "://" + g.host
	u, err := url.Parse(address)
	return address, err == nil && g.host != "" && u.Scheme == g.protocol && u.Host == g.host && u.String() == address
}

// maxGit bounds a line, and what is read at all.
const maxGit = 1 << 20

// readGit reads attributes, of which there is one a line, until an empty line or the end. git of
// some age lets the address of a repository add lines, which name the host of somebody else's
// token (CVE-2020-5260, CVE-2024-52006): whatever git does not write itself is refused.
func readGit(r io.Reader) (gitRequest, error) {
	var g gitRequest
	lines := bufio.NewScanner(io.LimitReader(r, maxGit))
	lines.Buffer(nil, maxGit)
	lines.Split(untilNewline)
	once := map[string]bool{}
	for lines.Scan() && lines.Text() != "" {
		name, value, ok := strings.Cut(lines.Text(), "=")
		switch {
		case !ok:
			return gitRequest{}, notGit("a line without '='")
		case strings.ContainsAny(value, "\r\x00"):
			return gitRequest{}, notGit("a line with a control character")
		case once[name]:
			return gitRequest{}, notGit("one attribute twice")
		}
		once[name] = !strings.HasSuffix(name, "[]")
		switch name {
		case "protocol":
			g.protocol = value
		case "host":
			g.host = value
		case "password", "credential":
			g.password = cmp.Or(tokencache.Secret(value), g.password)
		case "capability[]":
			g.authtype = g.authtype || value == "authtype"
		case "wwwauth[]":
			g.challenges = append(g.challenges, value)
		}
	}
	return g, lines.Err()
}

func notGit(what string) error {
	return errors.New("this is not what git says to a credential helper: " + what)
}

// untilNewline is like bufio.ScanLines, but a carriage return is part of the line.
func untilNewline(data []byte, atEnd bool) (advance int, line []byte, err error) {
	if i := bytes.IndexByte(data, '\n'); i >= 0 {
		return i + 1, data[:i], nil
	}
	if atEnd && len(data) > 0 {
		return len(data), data, nil
	}
	return 0, nil, nil
}
