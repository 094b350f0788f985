package endpoint

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/oauth2"

	"github.com/stayauth/stayauth/tokencache"
	"github.com/stayauth/stayauth/transport"
)

type tokenFunc func() (*oauth2.Token, error)

func (f tokenFunc) Token() (*oauth2.Token, error) { return f() }

func static(tok *oauth2.Token, err error) transport.Refresher {
	return FromTokenSource(tokenFunc(func() (*oauth2.Token, error) { return tok, err }))
}

func TestFromOAuth2(t *testing.T) {
	expiry := time.Now().Add(time.Hour)
	tok := (&oauth2.Token{AccessToken: "a", TokenType: "bearer", RefreshToken: "r", Expiry: expiry}).
		WithExtra(map[string]any{"id_token": "i", "scope": "x y"})
	rec := FromOAuth2(tok)
	if got, want := meaning(rec, nil), `access=a refresh=r id=i type=Bearer scope="x y" expires=`; !strings.HasPrefix(got, want) {
		t.Errorf("got %s, want %s", got, want)
	}
	if !rec.Expiry.Equal(expiry) || rec.Expiry != rec.Expiry.Round(0) || rec.ObtainedAt.IsZero() {
		t.Errorf("expiry %v, obtained at %v", rec.Expiry, rec.ObtainedAt)
	}
	if rec := FromOAuth2(&oauth2.Token{AccessToken: "a"}); meaning(rec, nil) != "access=a type=Bearer" {
		t.Errorf("got %s", meaning(rec, nil))
	}
}

// TestTokenSource: the source keeps its refresh token, and is not asked again at
// once if it keeps its access token too.
func TestTokenSource(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ts := static(&oauth2.Token{AccessToken: "a", RefreshToken: "r", Expiry: time.Now().Add(time.Hour)}, nil)
		first, err := ts.Refresh(t.Context(), nil)
		if got := meaning(first, err); got != "access=a type=Bearer expires=1h0m0s" {
			t.Errorf("got %s", got)
		}
		time.Sleep(40 * time.Minute)
		second, err := ts.Refresh(t.Context(), first)
		if got := meaning(second, err); got != "access=a type=Bearer expires=1h0m0s refresh-at=50m0s" {
			t.Errorf("the same token again: got %s", got)
		}
		time.Sleep(20 * time.Minute)
		if _, err := ts.Refresh(t.Context(), second); !errors.Is(err, transport.ErrUnavailable) {
			t.Errorf("an expired token: got %v", err)
		}
	})
}

// TestTokenSourceErrors are told by kind and hold nothing of the request.
func TestTokenSourceErrors(t *testing.T) {
	retrieve := func(status int, body string) error {
		request, _ := http.NewRequest("POST", "https://login.example.com/?secret=hunter2", strings.NewReader("refresh_token=hunter2"))
		return fmt.Errorf("hunter2: %w", &oauth2.RetrieveError{
			Response: &http.Response{StatusCode: status, Header: http.Header{"Retry-After": {"9"}}, Request: request},
			Body:     []byte(body),
		})
	}
	for _, c := range []struct {
		err  error
		want string
	}{
		{retrieve(400, `{"error":"invalid_grant","error_description":"hunter2"}`), "LOGIN REQUIRED 400 invalid_grant"},
		{retrieve(200, `{"error":"bad_refresh_token"}`), "LOGIN REQUIRED 200 bad_refresh_token"},
		{retrieve(401, `{"error":"invalid_client"}`), "MISCONFIGURED 401 invalid_client [check ClientID, ClientSecret and AuthStyle: the provider does not accept them]"},
		{retrieve(400, `{"error":"hunter2","error_uri":"https://hunter2.test"}`), "MISCONFIGURED 400 [look the error code up in the provider's documentation]"},
		{retrieve(429, `hunter2`), "PROVIDER UNAVAILABLE 429 retry after 9s"},
		{retrieve(502, `<html>hunter2`), "OUTCOME UNKNOWN 502 retry after 9s"},
		{&oauth2.RetrieveError{ErrorCode: "invalid_grant", ErrorDescription: "hunter2"}, "LOGIN REQUIRED 0 invalid_grant"},
		{&transport.Error{Kind: transport.ErrStorage, Op: "load"}, "TOKEN CACHE 0"},
		{&url.Error{Op: "Post", URL: "https://login.example.com/?secret=hunter2", Err: &net.OpError{Op: "dial", Err: errors.New("refused")}},
			"PROVIDER UNAVAILABLE 0 (dial: refused)"},
		{fmt.Errorf("read hunter2: %w", &fs.PathError{Op: "open", Path: "hunter2", Err: fs.ErrNotExist}), "PROVIDER UNAVAILABLE 0 (an error of type *fmt.wrapError of *fs.PathError of *errors.errorString)"},
	} {
		rec, err := static(nil, c.err).Refresh(t.Context(), testRecord())
		if got := meaning(rec, err); got != c.want {
			t.Errorf("got %s, want %s", got, c.want)
		}
		mustNotShow(t, err, "hunter2")
		if _, ok := errors.AsType[*oauth2.RetrieveError](err); ok {
			t.Errorf("%v wraps a RetrieveError", err)
		}
	}
	for _, tok := range []*oauth2.Token{nil, {}, {AccessToken: "a", TokenType: "MAC"}, {AccessToken: "a", TokenType: "DPoP"}, {AccessToken: "a\n"}} {
		if rec, err := static(tok, nil).Refresh(t.Context(), nil); !errors.Is(err, transport.ErrMisconfigured) || rec != nil {
			t.Errorf("%+v: got %v, %v", tok, rec, err)
		}
	}
	if rec, err := static(&oauth2.Token{AccessToken: "a", TokenType: "jwt-bearer"}, nil).Refresh(t.Context(), nil); err != nil || rec.TokenType != "Bearer" {
		t.Errorf("a bearer token of another name: got %s", meaning(rec, err))
	}
	if err := FromTokenSource(nil).Check(nil); !errors.Is(err, transport.ErrMisconfigured) {
		t.Errorf("no source: got %v", err)
	}
}

// TestTokenSourcePanics: nobody could recover on the goroutine that asks it, and the
// program lives on.
func TestTokenSourcePanics(t *testing.T) {
	ts := FromTokenSource(tokenFunc(func() (*oauth2.Token, error) { panic("hunter2") }))
	for range 2 {
		_, err := ts.Refresh(t.Context(), nil)
		if !errors.Is(err, transport.ErrUnavailable) || !strings.Contains(err.Error(), "panicked with a string") {
			t.Errorf("got %v", err)
		}
		mustNotShow(t, err, "hunter2")
	}
}

// TestTokenSourceHangs: a source that hangs keeps nobody, is not called a second time
// meanwhile, and what it finally brings is used.
func TestTokenSourceHangs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var calls atomic.Int32
		release := make(chan struct{})
		ts := FromTokenSource(tokenFunc(func() (*oauth2.Token, error) {
			if calls.Add(1) > 1 {
				return &oauth2.Token{AccessToken: "second"}, nil
			}
			<-release
			return &oauth2.Token{AccessToken: "first"}, nil
		}))
		start := time.Now()
		for range 100 {
			if _, err := ts.Refresh(t.Context(), nil); !errors.Is(err, transport.ErrUnavailable) || !errors.Is(err, context.DeadlineExceeded) {
				t.Fatalf("got %v", err)
			}
		}
		if waited := time.Since(start); waited != 100*requestTimeout || calls.Load() != 1 {
			t.Errorf("waited %v, %d calls", waited, calls.Load())
		}
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if _, err := ts.Refresh(ctx, nil); !errors.Is(err, context.Canceled) {
			t.Errorf("got %v", err)
		}
		close(release)
		synctest.Wait()
		for _, want := range []tokencache.Secret{"first", "second"} {
			if rec, err := ts.Refresh(t.Context(), nil); err != nil || rec.AccessToken != want {
				t.Errorf("got %s, want %s", meaning(rec, err), string(want))
			}
		}
	})
}

// TestTokenSourceFailsLate: the late failure of a call that everybody had given
// up on says nothing about now.
func TestTokenSourceFailsLate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var calls atomic.Int32
		ts := FromTokenSource(tokenFunc(func() (*oauth2.Token, error) {
			if calls.Add(1) == 1 {
				time.Sleep(time.Hour)
				return nil, errors.New("late")
			}
			return &oauth2.Token{AccessToken: "a"}, nil
		}))
		if _, err := ts.Refresh(t.Context(), nil); !errors.Is(err, transport.ErrUnavailable) {
			t.Errorf("got %v", err)
		}
		time.Sleep(2 * time.Hour)
		if rec, err := ts.Refresh(t.Context(), nil); err != nil || rec.AccessToken != "a" {
			t.Errorf("got %s", meaning(rec, err))
		}
	})
}
