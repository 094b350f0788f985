package mutualtls

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"log"
	"math/big"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// certificate returns one with the serial number n.
func certificate(t *testing.T, n int64, notAfter time.Time) *tls.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(n), NotBefore: time.Now().Add(-time.Hour), NotAfter: notAfter}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	return &tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key} // without a Leaf, as from old code
}

// A world is a server that says which certificate a connection was made with, and a client.
type world struct {
	t      *testing.T
	srv    *httptest.Server
	newest atomic.Pointer[tls.Certificate]
	fails  atomic.Bool

	refuses atomic.Bool // all certificates but the newest
	*Transport
}

func newWorld(t *testing.T, http2 bool) *world {
	t.Helper()
	w := &world{t: t}
	w.srv = httptest.NewUnstartedServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		for _, c := range r.TLS.PeerCertificates {
			fmt.Fprintf(rw, "%v over HTTP/%d", c.SerialNumber, r.ProtoMajor)
		}
	}))
	w.srv.EnableHTTP2 = http2
	w.srv.Config.ErrorLog = log.New(io.Discard, "", 0)
	w.srv.TLS = &tls.Config{ClientAuth: tls.RequestClientCert, VerifyPeerCertificate: func(raw [][]byte, _ [][]*x509.Certificate) error {
		if w.refuses.Load() && !bytes.Equal(raw[0], w.newest.Load().Certificate[0]) {
			return errors.New("its authority is not trusted any more")
		}
		return nil
	}}
	if !http2 {
		w.srv.TLS.MaxVersion = tls.VersionTLS12 // In later ones a refusal races with the request.
	}
	w.srv.StartTLS()
	t.Cleanup(w.srv.Close)
	roots := x509.NewCertPool()
	roots.AddCert(w.srv.Certificate())
	w.Transport = New(&http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots, ClientSessionCache: tls.NewLRUClientSessionCache(9)}, ForceAttemptHTTP2: http2},
		func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
			if w.fails.Load() {
				return nil, errors.New("no file")
			}
			return w.newest.Load(), nil
		})
	t.Cleanup(w.CloseIdleConnections)
	return w
}

// shown returns which certificate a request by rt comes with.
func (w *world) shown(rt http.RoundTripper) string {
	w.t.Helper()
	req, err := http.NewRequest(http.MethodGet, w.srv.URL, nil)
	if err != nil {
		w.t.Fatal(err)
	}
	resp, err := rt.RoundTrip(req)
	if err != nil {
		return "error"
	}
	defer resp.Body.Close()
	got, err := io.ReadAll(resp.Body)
	if err != nil {
		w.t.Fatal(err)
	}
	return string(got)
}

// Requests go on with a certificate while the token that they have is bound to it, and change to
// the newest with the token (C90).
func TestCertificateChangesWithTheToken(t *testing.T) {
	for major, http2 := range map[string]bool{"1": false, "2": true} {
		t.Run("HTTP "+major, func(t *testing.T) {
			w := newWorld(t, http2)
			want := func(what, got, want string) {
				t.Helper()
				if want += " over HTTP/" + major; got != want {
					t.Errorf("%s: certificate %s, want %s", what, got, want)
				}
			}
			soon := time.Now().Add(time.Hour)
			w.newest.Store(certificate(t, 11, soon))
			want("the first request", w.shown(w), "11")
			w.newest.Store(certificate(t, 22, soon))
			want("a renewed certificate", w.shown(w), "11")
			w.CloseIdleConnections()
			want("a new connection", w.shown(w), "11")
			newest, obtained := w.Newest()
			defer newest.CloseIdleConnections()
			want("a token request", w.shown(newest), "22")
			want("before the token is there", w.shown(w), "11")
			obtained()
			want("with the token", w.shown(w), "22")
			generation := w.current.Load()
			if obtained(); w.current.Load() != generation {
				t.Error("the connections end although the certificate is the same")
			}
			w.fails.Store(true)
			want("while there is no file", w.shown(w), "22")
			_, never := w.Newest()
			if never(); w.current.Load() != generation {
				t.Error("a request that was never sent has changed the certificate")
			}
		})
	}
}

// A certificate that has expired, or that a server refuses, is not kept.
func TestCertificateThatIsOfNoUse(t *testing.T) {
	w := newWorld(t, false)
	w.newest.Store(certificate(t, 11, time.Now().Add(-time.Minute)))
	if got := w.shown(w); got != "11 over HTTP/1" {
		t.Errorf("got %s", got)
	}
	w.newest.Store(certificate(t, 22, time.Now().Add(time.Hour)))
	w.CloseIdleConnections()
	if got := w.shown(w); got != "22 over HTTP/1" {
		t.Errorf("after the first has expired, got %s", got)
	}

	w = newWorld(t, false)
	w.newest.Store(certificate(t, 33, time.Now().Add(time.Hour)))
	if got := w.shown(w); got != "33 over HTTP/1" {
		t.Errorf("got %s", got)
	}
	w.newest.Store(certificate(t, 44, time.Now().Add(time.Hour)))
	w.refuses.Store(true)
	w.CloseIdleConnections()
	if got := w.shown(w); got != "error" {
		t.Errorf("got %s", got)
	}
	if got := w.shown(w); got != "44 over HTTP/1" {
		t.Errorf("after the first was refused, got %s", got)
	}
}

// A function that returns nothing is a client without a certificate, and one that fails says so.
func TestNoCertificate(t *testing.T) {
	w := newWorld(t, false)
	if got := w.shown(w); got != "" {
		t.Errorf("got %s", got)
	}
	w.fails.Store(true)
	w.CloseIdleConnections()
	if got := w.shown(w); got != "error" && got != "" {
		t.Errorf("got %s", got)
	}
}

// A panicKey panics when it is to sign, such as the driver of a hardware module.
type panicKey struct{ crypto.Signer }

func (panicKey) Sign(io.Reader, []byte, crypto.SignerOpts) ([]byte, error) { panic("no session") }

type panicMessageKey struct{ panicKey }

func (panicMessageKey) SignMessage(io.Reader, []byte, crypto.SignerOpts) ([]byte, error) {
	panic("no session")
}

// What panics while a certificate is presented fails a request, and does not end the program.
func TestPanicsOfTheCertificate(t *testing.T) {
	with := func(key func(crypto.Signer) crypto.Signer) Hook {
		c := certificate(t, 1, time.Now().Add(time.Hour))
		c.PrivateKey = key(c.PrivateKey.(crypto.Signer))
		return func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return c, nil }
	}
	for name, hook := range map[string]Hook{
		"no hook":     nil,
		"hook":        func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { panic("no file") },
		"key":         with(func(s crypto.Signer) crypto.Signer { return panicKey{s} }),
		"message key": with(func(s crypto.Signer) crypto.Signer { return panicMessageKey{panicKey{s}} }),
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, false)
			failing := New(w.base, hook)
			newest, _ := failing.Newest()
			for _, rt := range []http.RoundTripper{failing, newest} {
				req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, w.srv.URL, nil)
				if err != nil {
					t.Fatal(err)
				}
				if _, err := rt.RoundTrip(req); err == nil || !strings.Contains(err.Error(), "has panicked") {
					t.Errorf("got %v", err)
				}
			}
		})
	}
}

// A key that hashes by itself is asked in that way, because it may know no other.
func TestKeyThatSignsMessages(t *testing.T) {
	w := newWorld(t, true)
	c := certificate(t, 7, time.Now().Add(time.Hour))
	c.PrivateKey = &messageKey{panicKey{c.PrivateKey.(crypto.Signer)}, c.PrivateKey.(crypto.Signer)}
	w.newest.Store(c)
	if got := w.shown(w); got != "7 over HTTP/2" {
		t.Errorf("got %q", got)
	}
}

type messageKey struct {
	panicKey
	key crypto.Signer
}

func (k *messageKey) SignMessage(rand io.Reader, message []byte, opts crypto.SignerOpts) ([]byte, error) {
	return crypto.SignMessage(k.key, rand, message, opts)
}
