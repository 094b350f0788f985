// Package mutualtls sends requests over connections that were made with one certificate of the
// client, although that is renewed now and then. Tokens are bound to the certificate with which
// they were requested (RFC 8705 section 3), so a connection that was made with another one is
// of no use to them, however alive it is.
package mutualtls

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/stayauth/stayauth/transport/internal/neterror"
)

// A Hook is GetClientCertificate of a tls.Config.
type Hook = func(*tls.CertificateRequestInfo) (*tls.Certificate, error)

// A Transport presents the certificate that its hook returns. It goes on with the one that it
// began with until a token was obtained with another, or it has expired: what was bound to it is
// good until then.
type Transport struct {
	base    *http.Transport
	hook    Hook
	current atomic.Pointer[generation]
}

// New returns a Transport with the settings of base. Connections that are not in use end some time
// after the certificate has changed.
func New(base *http.Transport, hook Hook) *Transport {
	base = base.Clone()
	if base.TLSClientConfig == nil {
		base.TLSClientConfig = new(tls.Config)
	}
	base.TLSClientConfig.GetClientCertificate = hook
	base.TLSClientConfig.ClientSessionCache = nil // A session that is resumed has the certificate that it began with.
	if base.IdleConnTimeout == 0 {
		base.IdleConnTimeout = 90 * time.Second // as in http.DefaultTransport
	}
	t := &Transport{base: base, hook: guarded(hook)}
	t.current.Store(t.generation(nil))
	return t
}

// Of returns the settings of what sends the requests of rt, if that is an http.Transport.
func Of(rt http.RoundTripper) (*http.Transport, bool) {
	if t, ok := rt.(*Transport); ok {
		return t.base, true
	}
	t, ok := rt.(*http.Transport)
	return t, ok
}

// Changed returns when the certificate that rt presents was changed: tokens that were obtained
// before are bound to another one. The zero time: never.
func Changed(rt http.RoundTripper) time.Time {
	if t, ok := rt.(*Transport); ok {
		return t.current.Load().since
	}
	return time.Time{}
}

// RoundTrip implements http.RoundTripper.
func (t *Transport) RoundTrip(req *http.Request) (*http.Response, error) {
	g := t.current.Load()
	resp, err := g.RoundTrip(req)
	if err != nil && neterror.RefusesCertificate(err) {
		t.replace(g, nil, time.Now().Round(0)) // Perhaps there is a better one.
	}
	return resp, err
}

// CloseIdleConnections is for http.Client.
func (t *Transport) CloseIdleConnections() { t.current.Load().CloseIdleConnections() }

// Newest returns an http.Transport that presents the certificate that the hook returns now, and a
// function for when a token was obtained over it: all later requests present that one.
func (t *Transport) Newest() (newest *http.Transport, obtained func()) {
	began := time.Now().Round(0)
	var presented atomic.Pointer[tls.Certificate]
	newest = t.base.Clone()
	newest.TLSClientConfig.GetClientCertificate = func(info *tls.CertificateRequestInfo) (*tls.Certificate, error) {
		c, err := t.hook(info)
		presented.Store(c)
		return c, err
	}
	return newest, func() {
		if c := presented.Load(); c != nil { // The server has asked for it.
			if g := t.current.Load(); !g.holds(c) {
				t.replace(g, c, began)
			}
		}
	}
}

func (t *Transport) replace(old *generation, cert *tls.Certificate, now time.Time) {
	next := t.generation(cert)
	next.since = now
	if t.current.CompareAndSwap(old, next) {
		old.CloseIdleConnections() // and those that become idle
	}
}

// A generation is the connections that were made with one certificate.
type generation struct {
	*http.Transport
	since time.Time // zero: the first one

	mu   sync.Mutex
	cert *tls.Certificate // nil: there is no connection yet
}

// generation returns a new one. cert may be nil: then it is the one of the first connection.
func (t *Transport) generation(cert *tls.Certificate) *generation {
	g := &generation{Transport: t.base.Clone(), cert: cert}
	g.TLSClientConfig.GetClientCertificate = func(info *tls.CertificateRequestInfo) (*tls.Certificate, error) {
		g.mu.Lock()
		held := g.cert
		g.mu.Unlock()
		if held != nil && time.Now().Before(expiry(held)) {
			return held, nil
		}
		c, err := t.hook(info)
		if err == nil && held == nil {
			g.mu.Lock()
			if g.cert == nil {
				g.cert = c
			}
			c = g.cert
			g.mu.Unlock()
		}
		return c, err
	}
	return g
}

// holds reports whether its connections are made with cert, or there are none: then they will be.
func (g *generation) holds(cert *tls.Certificate) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.cert == nil {
		g.cert = cert
	}
	return g.cert == cert || bytes.Equal(leaf(g.cert), leaf(cert))
}

func leaf(c *tls.Certificate) []byte {
	if len(c.Certificate) == 0 {
		return nil
	}
	return c.Certificate[0]
}

// expiry returns when a certificate expires, or the zero time if it is none.
func expiry(c *tls.Certificate) time.Time {
	if c.Leaf != nil {
		return c.Leaf.NotAfter
	}
	parsed, err := x509.ParseCertificate(leaf(c))
	if err != nil {
		return time.Time{}
	}
	return parsed.NotAfter
}
