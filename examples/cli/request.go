package main

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strings"
	"unicode"

	"github.com/stayauth/stayauth/transport"
)

func getFlags(fs *flag.FlagSet, o *options) {
	fs.StringVar(&o.method, "X", "", "`method` of the request (default GET, or POST with -d)")
	fs.Var(headerList{&o.data}, "d", "`data` to send: text, @FILE, or @- for standard input;\nit is sent as it is, and as application/json unless -H\nsays otherwise")
	fs.Var(headerList{&o.data}, "data-binary", "`data` to send: the same as -d")
	fs.Var(headerList{&o.headers}, "H", "`header` to send, as \"Name: value\", or \"Name:\" to send\nnone of that name; can be repeated")
	fs.StringVar(&o.output, "o", "", "`file` to write the answer to")
	fs.BoolVar(&o.include, "i", false, "print the status and the headers of the answer too")
	fs.BoolVar(&o.head, "I", false, "ask for the status and the headers only (HEAD)")
	fs.BoolVar(&o.fail, "f", false, "do not print what the API answers with a status of 400\nor more")
	fs.Bool("L", true, "follow redirects: always done")
	fs.Bool("s", true, "show no progress: that is only shown on a terminal, after\na second")
	fs.Bool("S", true, "show errors: always done")
	fs.Var(&o.Origins, "origin", "`origins` of the APIs that may see the token (default:\nthose of login)")
	resourceFlag(fs, o)
}

func (c *cli) get(ctx context.Context, args []string) error {
	req, err := c.request(ctx, args[0])
	if err != nil {
		return err
	}
	if err := c.checkOrigins(); err != nil {
		return err
	}
	c.api = req.URL
	s, source, err := c.openSource(ctx)
	if err != nil {
		return err
	}
	defer s.closeSource(source)
	origins := s.destinations(append(s.provider.Origins, s.Origins...))
	switch {
	case len(origins) > 0:
	case s.given != "":
		return usagef("no API may see the token of %s yet: name its origin with -origin", s.given)
	default:
		return usagef("no API may see the token yet: name its origin with -origin, here or for login")
	}
	base := http.DefaultTransport.(*http.Transport).Clone()
	base.DisableCompression = true // What the API answers is printed as it is.
	rt, err := transport.New(transport.Config{Source: source, Origins: origins, Base: needsToken{base}})
	if err != nil {
		return err
	}
	resp, err := s.do(ctx, &http.Client{Transport: rt, CheckRedirect: checkRedirect}, source, req)
	if errors.Is(err, io.EOF) {
		return fmt.Errorf("%s closed the connection without an answer: %w", req.URL.Host, io.EOF)
	}
	if err != nil {
		return withoutURL(err)
	}
	defer resp.Body.Close()
	err = s.printResponse(resp)
	if resp.StatusCode == http.StatusUnauthorized && s.given != "" {
		err = fmt.Errorf("%w; whoever sets %s has to renew the token", err, s.given)
	}
	return err
}

// openSource returns the Source of the account in use, or of the token that is given.
func (c *cli) openSource(ctx context.Context) (*session, *transport.Source, error) {
	if c.resource != "" && !slices.Contains(c.Resources, c.resource) {
		return nil, nil, usagef("there is no login for %.200q: name it with -resource when you log in", c.resource)
	}
	if c.given != "" {
		return c.openGiven()
	}
	s, err := c.open(ctx)
	if err != nil {
		return nil, nil, err
	}
	account, err := s.account(ctx)
	if err != nil {
		return nil, nil, err
	}
	source, err := s.source(account.Key)
	return s, source, err
}

// request returns what is to be sent. Its body can be read again, so that the request
// can be repeated after a refresh.
func (c *cli) request(ctx context.Context, target string) (*http.Request, error) {
	u, err := url.Parse(target)
	switch {
	case err != nil || u.Host == "":
		return nil, usagef("%q is not a complete URL, such as https://api.example.com/v1/me", target)
	case u.User != nil:
		return nil, usagef("a URL with a user name sends a password, and not the token: leave it out")
	case strings.ContainsFunc(target, func(r rune) bool { return r <= ' ' }):
		return nil, usagef("a URL has no spaces: write %%20 instead")
	}
	if c.head && len(c.data) > 0 {
		return nil, usagef("-I asks for headers only, and -d sends data: use one")
	}
	method := c.method
	switch {
	case method != "":
	case c.head:
		method = http.MethodHead
	case len(c.data) > 0:
		method = http.MethodPost
	default:
		method = http.MethodGet
	}
	req, err := http.NewRequestWithContext(ctx, method, target, http.NoBody)
	if err != nil {
		return nil, usagef("%v", err)
	}
	if err := c.setBody(req); err != nil {
		return nil, err
	}
	if req.Header, err = c.header(); err != nil {
		return nil, err
	}
	return req, nil
}

// tokenChars are those of a header's name (RFC 9110 section 5.6.2).
const tokenChars = "!#$%&'*+-.^_`|~0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"

// header returns what -H says, and else what is usual.
func (c *cli) header() (http.Header, error) {
	usual := http.Header{"User-Agent": {appName}, "Accept": {"*/*"}}
	if len(c.data) > 0 {
		usual.Set("Content-Type", "application/json")
	}
	said := http.Header{}
	for i, h := range c.headers {
		name, value, ok := strings.Cut(h, ":")
		name, value = http.CanonicalHeaderKey(name), strings.TrimSpace(value)
		switch {
		case !ok:
			return nil, usagef("-H number %d is not \"Name: value\"", i+1)
		case name == "" || strings.Trim(name, tokenChars) != "" || strings.ContainsFunc(value, unicode.IsControl):
			return nil, usagef("-H number %d has characters that no header has", i+1)
		case name == "Authorization":
			return nil, usagef("Authorization is what stayauth sets: for another one, use another program")
		case name == "Host" || name == "Content-Length" || name == "Transfer-Encoding" || name == "Connection":
			return nil, usagef("%s is what the URL and the data say: for another one, use another program", name)
		case value == "":
			usual[name] = nil
		default:
			said.Add(name, value)
		}
	}
	maps.Copy(usual, said)
	if usual["User-Agent"] == nil {
		usual.Set("User-Agent", "") // Otherwise there is that of Go.
	}
	return usual, nil
}

// needsToken refuses requests that the Transport has let pass without a token because
// their origin is not listed. A redirect may lead anywhere: it has no token.
type needsToken struct{ http.RoundTripper }

func (n needsToken) RoundTrip(req *http.Request) (*http.Response, error) {
	if req.Header.Get("Authorization") == "" && req.Response == nil {
		if req.Body != nil {
			req.Body.Close()
		}
		return nil, usagef("the token is not for %s://%s: allow it with -origin, if you trust that API with your account", req.URL.Scheme, req.URL.Host)
	}
	return n.RoundTripper.RoundTrip(req)
}

// mostRedirects is how many redirects are followed.
const mostRedirects = 10

// checkRedirect keeps to itself where a redirect comes from: the address may have something secret
// in its query, and net/http would send it as the referrer.
func checkRedirect(req *http.Request, via []*http.Request) error {
	if via[0].Header.Get("Referer") == "" {
		req.Header.Del("Referer")
	}
	if len(via) > mostRedirects {
		return fmt.Errorf("the API has redirected the request %d times", len(via))
	}
	return nil
}

// withoutURL takes the URL out of an error, which may have something secret in its
// query.
func withoutURL(err error) error {
	if e, ok := errors.AsType[*url.Error](err); ok {
		return e.Err
	}
	return err
}

func (s *session) printResponse(resp *http.Response) (err error) {
	out := s.stdout
	if s.output != "" && s.output != "-" {
		if out, err = os.Create(s.output); err != nil {
			return err
		}
		defer func() { err = errors.Join(err, out.Close()) }()
	}
	if s.include || s.head {
		if err := printHeader(out, resp); err != nil {
			return err
		}
	}
	failed := resp.StatusCode >= 400
	if !failed || !s.fail {
		if _, err := io.Copy(out, resp.Body); err != nil {
			return fmt.Errorf("the answer is not complete: %w", err)
		}
		if isTerminal(out) {
			fmt.Fprintln(out) // Few answers end a line.
		}
	}
	if !failed {
		return nil
	}
	for _, ch := range transport.ParseChallenges(resp.Header) {
		if ch.Params["error"] != "" {
			return fmt.Errorf("the API answered %s: %w", resp.Status, ch)
		}
	}
	return fmt.Errorf("the API answered %s", resp.Status)
}

// printHeader prints the status and the headers as they are sent (RFC 9112 section 4).
func printHeader(out io.Writer, resp *http.Response) error {
	var b bytes.Buffer
	fmt.Fprintf(&b, "%s %s\r\n", resp.Proto, resp.Status)
	resp.Header.Write(&b)
	b.WriteString("\r\n")
	_, err := out.Write(b.Bytes())
	return err
}

func tokenFlags(fs *flag.FlagSet, o *options) {
	fs.BoolVar(&o.asHeader, "header", false, "print it as a header, for 'curl -H @-'")
	resourceFlag(fs, o)
	showFlag(fs, o)
}

func showFlag(fs *flag.FlagSet, o *options) {
	fs.BoolVar(&o.show, "show", false, "print it to a terminal too")
}

func (c *cli) token(ctx context.Context, _ []string) error {
	if err := c.checkOutput(); err != nil {
		return err
	}
	return c.useToken(ctx, func(token transport.Token) error {
		if c.asHeader {
			return c.print("Authorization: %s %s\n", token.Type, string(token.AccessToken))
		}
		return c.print("%s\n", string(token.AccessToken))
	})
}
