package main

import (
	"context"
	"errors"
	"net/http"
	"strings"

	"github.com/stayauth/stayauth/transport"
	"github.com/stayauth/stayauth/transport/login"
)

// do sends a request. If the API demands what only a login can bring, and a person is there to log
// in, it is sent once more after that.
func (s *session) do(ctx context.Context, client *http.Client, source *transport.Source, req *http.Request) (*http.Response, error) {
	resp, err := s.send(client, req)
	cause := demand(req, resp, err)
	if cause == nil || !s.attended() {
		return resp, err
	}
	loginErr := s.stepUp(ctx, source, cause)
	_, useless := errors.AsType[transport.Challenge](loginErr)
	switch {
	case errors.Is(loginErr, login.RefusedRepeated), errors.Is(loginErr, transport.ErrMisconfigured):
		s.say("%s\n", message(loginErr))
		return resp, err
	case useless:
		return resp, err
	}
	if resp != nil {
		resp.Body.Close()
	}
	if loginErr != nil {
		return nil, loginErr
	}
	again := req.Clone(ctx)
	if req.GetBody != nil {
		if again.Body, err = req.GetBody(); err != nil {
			return nil, err
		}
	}
	return s.send(client, again)
}

// send sends a request, and shows for how long it has been waited for.
func (s *session) send(client *http.Client, req *http.Request) (*http.Response, error) {
	waiting := s.newProgress("Waiting for " + req.URL.Host)
	waiting.start()
	defer waiting.stop()
	return client.Do(req)
}

// attended reports whether there is a login of a person, who is at the terminal.
func (s *session) attended() bool {
	return s.given == "" && !s.Robot && isTerminal(s.stdin) && isTerminal(s.stderr)
}

// demand returns what the API demands that only a login can bring, nil if there is no such thing.
// An API that has done what it was asked demands nothing: it is not to be asked once more. Where a
// redirect has led, nobody was sent the token, and nobody has anything to demand.
func demand(req *http.Request, resp *http.Response, err error) error {
	if err != nil {
		if e, ok := errors.AsType[*transport.Error](err); ok && e.Claims != "" {
			return e
		}
		return nil
	}
	if to := resp.Request.URL; to.Scheme != req.URL.Scheme || to.Host != req.URL.Host || resp.StatusCode < 400 {
		return nil
	}
	for _, ch := range transport.ParseChallenges(resp.Header) {
		more := strings.EqualFold(ch.Params["error"], "insufficient_scope") && ch.Params["scope"] != ""
		if more || ch.Params["acr_values"] != "" || ch.Params["max_age"] != "" || ch.Claims() != "" {
			return ch
		}
	}
	return nil
}

// stepUp lets the user log in as the API demands, in place of the present login. The error is the
// cause if that would be of no use.
func (s *session) stepUp(ctx context.Context, source *transport.Source, cause error) error {
	// An outage may be why the token does not have the claims that are demanded.
	if _, err := source.Token(ctx); err != nil && !errors.Is(err, transport.ErrLoginRequired) {
		return cause
	}
	if err := s.checkKey(ctx); err != nil {
		return err
	}
	status, err := source.Status(ctx)
	if err != nil {
		return err
	}
	former, _, err := s.cache.Load(ctx, status.Key)
	if err != nil {
		return err
	}
	s.say("This needs another login: %s\n", message(cause))
	again := *s
	if _, key := former.Proof(); key == "" { // Many providers do not know how to bind a login.
		e := *s.endpoint
		e.DPoP, again.endpoint = nil, &e
	}
	tokens, err := again.askUser(ctx, login.Auto, login.Config{Cause: cause, Former: former})
	if err != nil {
		return err
	}
	if err := source.Login(ctx, tokens); err != nil {
		return s.undo(tokens, err)
	}
	s.say("%s\n", s.paint(green, "Logged in."))
	return nil
}

// demanded returns why the provider has refused to renew the login in use, if it demands claims of
// the next one. Without them, that would be refused too.
func (s *session) demanded(ctx context.Context) error {
	account, err := s.account(ctx)
	if err != nil {
		return nil // There is none, or it is not known which one is meant.
	}
	rec, _, err := s.cache.Load(ctx, account.Key)
	if err != nil || rec.Tombstone == nil || rec.Tombstone.Claims == "" {
		return nil
	}
	return &transport.Error{Kind: transport.ErrLoginRequired, Op: "login", Claims: rec.Tombstone.Claims}
}
