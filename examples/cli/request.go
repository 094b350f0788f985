package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"strings"

	"github.com/stayauth/stayauth/transport"
)

func getFlags(fs *flag.FlagSet, o *options) {
	fs.StringVar(&o.method, "X", "", "`method` of the request (default GET, or POST with -d)")
	fs.StringVar(&o.data, "d", "", "`data` to send: text, @FILE, or @- for standard input;\nit is application/json unless -H says otherwise")
	fs.Var(headerList{&o.headers}, "H", "`header` to send, as \"Name: value\"; can be repeated")
	fs.BoolVar(&o.include, "i", false, "print the status and the headers of the answer too")
	fs.Var(&o.Origins, "origin", "`origins` of the APIs that may see the token (default:\nthose of login)")
}

func (c *cli) get(ctx context.Context, args []string) error {
	req, err := c.request(ctx, args[0])
	if err != nil {
		return err
	}
	s, source, err := c.openSource(ctx)
	if err != nil {
		return err
	}
	defer s.closeSource(source)
	origins := append(s.provider.Origins, s.Origins...)
	if len(origins) == 0 {
		return usagef("no API may see the token yet: name its origin with -origin, here or for login")
	}
	rt, err := transport.New(transport.Config{Source: source, Origins: origins, Base: needsToken{http.DefaultTransport}})
	if err != nil {
		return err
	}
	waiting := s.newProgress("Waiting for " + req.URL.Host)
	waiting.start()
	defer waiting.stop()
	resp, err := (&http.Client{Transport: rt}).Do(req)
	waiting.stop()
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
	if u, err := url.Parse(target); err != nil || u.Host == "" {
		return nil, usagef("%q is not a complete URL, such as https://api.example.com/v1/me", target)
	}
	method, data := c.method, c.data
	if from, ok := strings.CutPrefix(data, "@"); ok {
		b, err := c.readFile(from)
		if err != nil {
			return nil, usagef("-d: %v", err)
		}
		data = string(b)
	}
	if method == "" {
		method = http.MethodGet
		if c.data != "" {
			method = http.MethodPost
		}
	}
	var body io.Reader = http.NoBody
	if c.data != "" {
		body = strings.NewReader(data)
	}
	req, err := http.NewRequestWithContext(ctx, method, target, body)
	if err != nil {
		return nil, usagef("%v", err)
	}
	req.Header.Set("User-Agent", appName)
	if c.data != "" {
		req.Header.Set("Content-Type", "application/json")
	}
	for i, h := range c.headers {
		name, value, ok := strings.Cut(h, ":")
		if !ok {
			return nil, usagef("-H number %d is not \"Name: value\"", i+1)
		}
		if http.CanonicalHeaderKey(name) == "Authorization" {
			return nil, usagef("Authorization is what stayauth sets: for another one, use another program")
		}
		req.Header.Set(name, strings.TrimSpace(value))
	}
	return req, nil
}

func (c *cli) readFile(name string) ([]byte, error) {
	if name == "-" {
		return io.ReadAll(c.stdin)
	}
	return os.ReadFile(name)
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

// withoutURL takes the URL out of an error, which may have something secret in its
// query.
func withoutURL(err error) error {
	if e, ok := errors.AsType[*url.Error](err); ok {
		return e.Err
	}
	return err
}

func (s *session) printResponse(resp *http.Response) error {
	if s.include {
		if err := s.print("%s %s\n", resp.Proto, resp.Status); err != nil {
			return err
		}
		if err := resp.Header.Write(s.stdout); err != nil {
			return err
		}
		if err := s.print("\n"); err != nil {
			return err
		}
	}
	if _, err := io.Copy(s.stdout, resp.Body); err != nil {
		return fmt.Errorf("the answer is not complete: %w", err)
	}
	if isTerminal(s.stdout) {
		s.print("\n") // Few answers end a line.
	}
	if resp.StatusCode < 400 {
		return nil
	}
	for _, ch := range transport.ParseChallenges(resp.Header) {
		if ch.Params["error"] != "" {
			return fmt.Errorf("the API answered %s: %w", resp.Status, ch)
		}
	}
	return fmt.Errorf("the API answered %s", resp.Status)
}

func tokenFlags(fs *flag.FlagSet, o *options) {
	fs.BoolVar(&o.asHeader, "header", false, "print it as a header, for 'curl -H @-'")
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
