package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	mathrand "math/rand/v2"
	"net/http"
	"net/http/cookiejar"
	"net/http/httputil"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/stayauth/stayauth/tokencache"
	"github.com/stayauth/stayauth/transport"
	"github.com/stayauth/stayauth/transport/login"
	"github.com/stayauth/stayauth/transport/provider"
)

// Users connect their accounts as they do everywhere: the application sends the browser to
// the provider, and takes it back at whichever replica the balancer chooses.

// web returns what logs users in.
func (c config) web(logins *transport.Pool, cache *tokencache.Cache) (*login.Web, error) {
	return login.NewWeb(login.WebConfig{
		Provider:    &provider.Provider{Issuer: c.API, SendsIss: true, AuthURL: c.API + "/authorize", TokenURL: c.TokenURL},
		Endpoint:    c.endpoint(),
		Pool:        logins,
		Cache:       cache,
		RedirectURL: c.App + "/callback",
		Keys:        [][]byte{c.CookieKey},
		User:        userOf,
	})
}

// userOf is the application's session: here the browser says who the user is.
func userOf(r *http.Request) (string, error) {
	c, err := r.Cookie("user")
	if err != nil {
		return "", nil
	}
	return c.Value, nil
}

// routes adds the pages of login to those of the service.
func routes(s service, web *login.Web) http.Handler {
	mux := http.NewServeMux()
	mux.Handle("GET /{user}", s)
	mux.HandleFunc("POST /connect", web.Connect)
	mux.HandleFunc("GET /callback", web.Callback)
	mux.HandleFunc("GET /{$}", func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, connected) })
	return mux
}

const connected = "connected"

// balance passes each request on to another replica.
func (s *swarm) balance() http.Handler {
	return &httputil.ReverseProxy{Rewrite: func(r *httputil.ProxyRequest) {
		s.mu.Lock()
		defer s.mu.Unlock()
		u, err := url.Parse(s.replicas[mathrand.IntN(len(s.replicas))].url)
		if err == nil {
			r.SetURL(u)
		}
	}}
}

// connect has all users log in, one after the other within a token's life, so that their
// tokens do not end together.
func (s *swarm) connect(ctx context.Context, within time.Duration) error {
	errs := make([]error, len(s.accounts))
	var wg sync.WaitGroup
	for i, account := range s.accounts {
		wg.Go(func() {
			time.Sleep(mathrand.N(within))
			if err := s.logIn(ctx, account); err != nil {
				errs[i] = fmt.Errorf("%s: %w", account, err)
			}
		})
	}
	wg.Wait()
	return errors.Join(errs...)
}

// logIn is what a user does in a browser, who then sees that the account is connected.
func (s *swarm) logIn(ctx context.Context, account string) error {
	jar, err := cookiejar.New(nil)
	if err != nil {
		return err
	}
	app, err := url.Parse(s.config.App)
	if err != nil {
		return err
	}
	jar.SetCookies(app, []*http.Cookie{{Name: "user", Value: account, Path: "/"}})
	press, err := http.NewRequestWithContext(ctx, http.MethodPost, s.config.App+"/connect", nil)
	if err != nil {
		return err
	}
	press.Header.Set("Sec-Fetch-Site", "same-origin")
	resp, err := (&http.Client{Jar: jar, Transport: signIn(account)}).Do(press)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	page, err := io.ReadAll(io.LimitReader(resp.Body, 4<<10))
	if err == nil && string(page) != connected {
		_, title, _ := strings.Cut(string(page), "<title>")
		err = fmt.Errorf("the page at the end has status %d and says %.60q", resp.StatusCode, title)
	}
	return err
}

// signIn is the network of a browser whose user signs in at the provider.
type signIn string

func (account signIn) RoundTrip(req *http.Request) (*http.Response, error) {
	if req.URL.Path == "/authorize" {
		req.URL.RawQuery += "&login_hint=" + url.QueryEscape(string(account))
	}
	return http.DefaultTransport.RoundTrip(req)
}
