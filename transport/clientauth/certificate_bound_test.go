package clientauth_test

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stayauth/stayauth/testdata/realparts"
	"github.com/stayauth/stayauth/tokencache"
	"github.com/stayauth/stayauth/transport"
	"github.com/stayauth/stayauth/transport/clientauth"
	"github.com/stayauth/stayauth/transport/endpoint"
	"github.com/stayauth/stayauth/transport/oauthtest"
)

// A boundWorld is a provider that binds access tokens to certificates, and a client that has one.
type boundWorld struct {
	t    *testing.T
	ca   *realparts.CA
	srv  *oauthtest.Server
	base http.RoundTripper
	e    *endpoint.Endpoint
	s    *transport.Source
	api  *http.Client
}

func newBoundWorld(t *testing.T, cfg oauthtest.Config) *boundWorld {
	t.Helper()
	w := &boundWorld{t: t, ca: realparts.NewCA(t)}
	cfg.AuthStyle, cfg.Policy, cfg.ClientCertificates = oauthtest.AuthCertificate, oauthtest.StrictFamily, w.ca.Pool()
	w.srv = oauthtest.New(cfg)
	must(t, w.srv.StartTLS())
	t.Cleanup(w.srv.Close)
	plain := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: w.srv.CertPool()}, MaxIdleConnsPerHost: 100}
	w.base = clientauth.WithCertificate(plain, clientauth.CertificateFile(w.ca.IssueClient("client")))
	w.e = &endpoint.Endpoint{Issuer: w.srv.URL(), TokenURL: w.srv.TokenURL(), RevocationURL: w.srv.URL() + "/revoke",
		ClientID: w.srv.ClientID(), ClientCertificate: true, Base: w.base}
	w.s = source(t, w.e)
	t.Cleanup(func() { w.s.Close(context.Background()) })
	rt, err := transport.New(transport.Config{Source: w.s, Base: w.base, Origins: []string{w.srv.APIOrigin()}})
	must(t, err)
	w.api = &http.Client{Transport: rt}
	t.Cleanup(w.api.CloseIdleConnections)
	must(t, w.s.Login(t.Context(), record(w.srv, "ann")))
	return w
}

// call asks the API, with a body that can be sent again.
func (w *boundWorld) call() error {
	resp, err := w.api.Post(w.srv.APIURL(), "text/plain", strings.NewReader("hello"))
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return errors.New(resp.Status)
	}
	_, err = io.Copy(io.Discard, resp.Body)
	return err
}

// A certificate that is renewed again and again, one file after the other, under the load of an
// API that accepts each access token only with its own certificate: no call fails (C90).
func TestCertificateIsRenewedUnderLoad(t *testing.T) {
	t.Parallel()
	w := newBoundWorld(t, oauthtest.Config{AccessTTL: 2 * time.Second, Skew: -time.Hour})
	must(t, w.call()) // The files are whole when the program starts.
	var calls atomic.Int64
	var wg sync.WaitGroup
	ctx, stop := context.WithCancel(t.Context())
	for range 8 {
		wg.Go(func() {
			for ctx.Err() == nil {
				if err := w.call(); err != nil {
					t.Error(err)
					return
				}
				calls.Add(1)
				time.Sleep(time.Millisecond)
			}
		})
	}
	const renewals = 2
	for range renewals {
		w.ca.IssueClient("client")
		for before := w.srv.Counts().Rotations; w.srv.Counts().Rotations < before+2 && !t.Failed(); { // at least one after it
			time.Sleep(10 * time.Millisecond)
		}
	}
	stop()
	wg.Wait()
	n := w.srv.Counts()
	if n.Rotations < 2*renewals || n.Reuses != 0 || n.InvalidGrants != 0 {
		t.Errorf("%+v", n)
	}
	t.Logf("%d calls, %d renewals of the certificate, %d refreshes, %d calls repeated", calls.Load(), renewals, n.Rotations, n.APIRefused)
}

// With the first new token of a Pool, all of its requests come with the new certificate: the other
// logins get new tokens too, however young theirs are, and no call fails (C90).
func TestCertificateOfAPoolIsRenewed(t *testing.T) {
	w := newBoundWorld(t, oauthtest.Config{})
	cache, err := tokencache.New(new(tokencache.Memory), nil)
	must(t, err)
	pool, err := transport.NewPool(transport.PoolConfig{Source: transport.SourceConfig{Cache: cache, Refresher: w.e}})
	must(t, err)
	defer pool.Close(context.Background())
	rt, err := transport.New(transport.Config{Pool: pool, Base: w.base, Origins: []string{w.srv.APIOrigin()}})
	must(t, err)
	const logins = 20
	call := func(account string) error {
		req, err := http.NewRequestWithContext(transport.WithAccount(t.Context(), account), http.MethodPost, w.srv.APIURL(), strings.NewReader("hello"))
		must(t, err)
		resp, err := rt.RoundTrip(req)
		if err != nil {
			return err
		}
		if resp.Body.Close(); resp.StatusCode != http.StatusOK {
			return errors.New(resp.Status)
		}
		return nil
	}
	expired := func(account string) {
		login := record(w.srv, account)
		login.AccessToken, login.Expiry = "", time.Now().Add(-time.Minute)
		must(t, pool.Source(account).Login(t.Context(), login))
	}
	for i := range logins {
		expired(fmt.Sprint("user ", i))
		must(t, call(fmt.Sprint("user ", i)))
	}
	for range 2 {
		w.ca.IssueClient("client")
		before := w.srv.Counts()
		expired("user 0") // so that it gets the first new token
		for range 3 {
			for i := range logins {
				if err := call(fmt.Sprint("user ", i)); err != nil {
					t.Fatalf("user %d: %v", i, err)
				}
			}
		}
		if after := w.srv.Counts(); after.Rotations != before.Rotations+logins || after.APIRefused != before.APIRefused+logins-1 {
			t.Errorf("%+v, and then %+v", before, after)
		}
	}
}

// A token that is bound to a certificate that the program no longer has, because it was renewed
// between two runs, costs one refresh, and the call is repeated with its body (C90).
func TestTokenOfAnOlderCertificate(t *testing.T) {
	w := newBoundWorld(t, oauthtest.Config{})
	bound, err := w.e.ClientCredentials().Refresh(t.Context(), new(tokencache.Record))
	must(t, err)
	login := record(w.srv, "ann")
	login.AccessToken, login.ObtainedAt = bound.AccessToken, time.Now().Add(-time.Minute)
	must(t, w.s.Login(t.Context(), login))
	must(t, w.call())
	before := w.srv.Counts()

	certFile, keyFile := w.ca.IssueClient("client") // and the program is started anew
	base := clientauth.WithCertificate(&http.Transport{TLSClientConfig: &tls.Config{RootCAs: w.srv.CertPool()}}, clientauth.CertificateFile(certFile, keyFile))
	e := &endpoint.Endpoint{Issuer: w.e.Issuer, TokenURL: w.e.TokenURL, ClientID: w.e.ClientID, ClientCertificate: true, Base: base}
	s := source(t, e)
	must(t, s.Login(t.Context(), login))
	rt, err := transport.New(transport.Config{Source: s, Base: base, Origins: []string{w.srv.APIOrigin()}})
	must(t, err)
	w.api = &http.Client{Transport: rt}
	defer w.api.CloseIdleConnections()
	for range 3 {
		must(t, w.call())
	}
	after := w.srv.Counts()
	if after.Rotations != before.Rotations+1 || after.APIRefused != before.APIRefused+1 || after.Reuses != 0 {
		t.Errorf("%+v, and then %+v", before, after)
	}
}

// Nothing is lost with a certificate that the provider does not know: the login goes on with the
// right one (C90).
func TestWrongCertificateLosesNothing(t *testing.T) {
	w := newBoundWorld(t, oauthtest.Config{AccessTTL: time.Second})
	certFile, keyFile := w.ca.IssueClient("client")
	good, err := os.ReadFile(certFile)
	must(t, err)
	goodKey, err := os.ReadFile(keyFile)
	must(t, err)
	cert, key := newPair(t)
	must(t, os.WriteFile(certFile, []byte(cert), 0o600))
	must(t, os.WriteFile(keyFile, []byte(key), 0o600))
	rec := record(w.srv, "bob")
	rec.TokenURL = w.e.TokenURL
	_, err = w.e.Refresh(t.Context(), rec)
	if told := wantError(t, err, transport.ErrMisconfigured); told.Field != "Endpoint.Base" || !strings.Contains(told.Remedy, "certificate") {
		t.Errorf("got %v", err)
	}
	must(t, os.WriteFile(certFile, good, 0o600))
	must(t, os.WriteFile(keyFile, goodKey, 0o600))
	if _, err = w.e.Refresh(t.Context(), rec); err != nil {
		t.Error(err)
	}
	must(t, w.e.Revoke(t.Context(), rec))
	if n := w.srv.Counts(); n.Rotations != 1 || n.Reuses != 0 || n.InvalidGrants != 0 {
		t.Errorf("%+v", n)
	}
}
