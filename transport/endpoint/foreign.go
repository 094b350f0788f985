package endpoint

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"sync"
	"time"

	"golang.org/x/oauth2"

	"github.com/stayauth/stayauth/tokencache"
	"github.com/stayauth/stayauth/transport"
	"github.com/stayauth/stayauth/transport/internal/bearer"
	"github.com/stayauth/stayauth/transport/internal/neterror"
)

// FromOAuth2 returns tok as a record, for a program that has logged in by other means and hands
// the login over. From then on only one of the two may refresh the login.
func FromOAuth2(tok *oauth2.Token) *tokencache.Record {
	idToken, _ := tok.Extra("id_token").(string)
	scope, _ := tok.Extra("scope").(string)
	rec := &tokencache.Record{
		AccessToken:  tokencache.Secret(tok.AccessToken),
		TokenType:    tok.Type(),
		RefreshToken: tokencache.Secret(tok.RefreshToken),
		IDToken:      tokencache.Secret(idToken),
		Scope:        scope,
		ObtainedAt:   wallNow(),
	}
	if !tok.Expiry.IsZero() {
		rec.Expiry = tok.Expiry.Round(0)
	}
	return rec
}

// FromTokenSource returns a Refresher that asks ts for tokens, so that tokens that another
// library obtains are shared and cached like any others. Refresh tokens stay with ts.
//
// Pass a source that gets a new token at each call. One that caches, such as that of
// oauth2.ReuseTokenSource or oauth2.Config.TokenSource, hands out the same token until shortly
// before its expiry, so that nothing can replace a token that an API has rejected.
//
// A Source stores what ts returns. For a token that was given to the program for one run, in an
// environment variable for instance, or that is in a file which something else renews, there is
// package transport/external, which stores nothing.
//
// ts.Token has no context. While a call hangs, no second one is made, and Refresh waits for 15
// s at most; what the call returns later is used by the next Refresh. Errors of ts are reported
// by kind and never wrapped, because an *oauth2.RetrieveError holds the request with its
// secrets.
func FromTokenSource(ts oauth2.TokenSource) transport.Refresher { return &foreign{ts: ts} }

type foreign struct {
	ts oauth2.TokenSource

	mu   sync.Mutex
	call *foreignCall // under way, or finished when nobody waited any more
}

type foreignCall struct {
	done chan struct{}
	tok  *oauth2.Token // set before done is closed
	err  error
}

// Identity says nothing: only the program knows whose tokens these are.
func (f *foreign) Identity() transport.Identity { return transport.Identity{} }

func (f *foreign) Check(*tokencache.Record) error {
	if f.ts == nil {
		return &transport.Error{Kind: transport.ErrMisconfigured, Op: "config", Field: "TokenSource", Remedy: "give FromTokenSource one"}
	}
	return nil
}

func (f *foreign) Refresh(ctx context.Context, current *tokencache.Record) (*tokencache.Record, error) {
	if err := f.Check(current); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	call := f.join()
	select {
	case <-call.done:
	case <-ctx.Done():
		return nil, &transport.Error{Kind: transport.ErrUnavailable, Op: "refresh", Err: ctx.Err(), Remedy: "the token source has not answered yet"}
	}
	f.mu.Lock()
	if f.call == call {
		f.call = nil
	}
	f.mu.Unlock()
	if call.err != nil {
		return nil, foreignError(call.err)
	}
	return foreignRecord(call.tok, current)
}

// join returns the call to wait for, and starts one if there is none. A finished call that
// nobody waited for any more still counts if it has brought a token.
func (f *foreign) join() *foreignCall {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.call != nil {
		select {
		case <-f.call.done:
			if f.call.err == nil && f.call.tok.Valid() {
				return f.call
			}
		default:
			return f.call
		}
	}
	call := &foreignCall{done: make(chan struct{})}
	f.call = call
	go func() {
		defer close(call.done)
		defer func() {
			if p := recover(); p != nil { // Nobody else can recover on this goroutine.
				call.err = &transport.Error{Kind: transport.ErrUnavailable, Op: "refresh", Err: fmt.Errorf("the token source has panicked with a %T", p)}
			}
		}()
		call.tok, call.err = f.ts.Token()
	}()
	return call
}

// foreignRecord returns the token of a source as a record.
func foreignRecord(tok *oauth2.Token, current *tokencache.Record) (*tokencache.Record, error) {
	switch {
	case tok == nil || tok.AccessToken == "":
		return nil, &transport.Error{Kind: transport.ErrMisconfigured, Op: "refresh", Field: "TokenSource", Remedy: "it returns neither a token nor an error"}
	case !tok.Expiry.IsZero() && !tok.Expiry.After(time.Now()):
		return nil, &transport.Error{Kind: transport.ErrUnavailable, Op: "refresh", Remedy: "the token source returned a token that has expired"}
	}
	rec := FromOAuth2(tok)
	if bearer.Normalize(&rec.TokenType, false) != "" {
		return nil, &transport.Error{Kind: transport.ErrMisconfigured, Op: "refresh", Field: "TokenSource", Remedy: "use a source of bearer tokens"}
	}
	if !sendable(rec.AccessToken) {
		return nil, &transport.Error{Kind: transport.ErrMisconfigured, Op: "refresh", Field: "TokenSource", Remedy: "it returns a token with characters that no header can carry, such as the end of a line"}
	}
	rec.RefreshToken = "" // Two owners of one refresh token would spend it twice.
	if current != nil && current.AccessToken == rec.AccessToken {
		// The source keeps its token longer than the caller would. Asking again at once
		// brings nothing; closer to the expiry it does.
		rec.ObtainedAt = current.ObtainedAt
		if !rec.Expiry.IsZero() {
			now := wallNow()
			rec.RefreshAt = now.Add(rec.Expiry.Sub(now) / 2)
		}
	}
	return rec, nil
}

// foreignError says what an error of a source means.
func foreignError(err error) error {
	if e, ok := errors.AsType[*transport.Error](err); ok {
		return e
	}
	r, ok := errors.AsType[*oauth2.RetrieveError](err)
	if !ok {
		return &transport.Error{Kind: transport.ErrUnavailable, Op: "refresh", Err: neterror.Safe(err)}
	}
	a := &answer{op: "refresh", at: time.Now(), header: http.Header{}}
	if r.Response != nil {
		a.status, a.header = r.Response.StatusCode, r.Response.Header
	}
	a.parse(r.Body)
	if code, _ := a.oauthError(); code == "" && r.ErrorCode != "" {
		text, _ := json.Marshal(r.ErrorCode)
		a.members = members{"error": text}
	}
	e := a.failure()
	// The field is not ours, and we do not know the secrets that a text may repeat.
	e.Field, e.Description, e.URI = "", "", ""
	if !a.knows(e.Code) {
		e.Code = ""
	}
	return e
}
