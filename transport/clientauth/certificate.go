package clientauth

import (
	"bytes"
	"crypto/tls"
	"fmt"
	"net/http"
	"sync"

	"github.com/stayauth/stayauth/transport/internal/mutualtls"
	"github.com/stayauth/stayauth/transport/internal/smallfile"
	"github.com/stayauth/stayauth/transport/internal/statement"
)

// WithCertificate returns a RoundTripper that has the settings of base, or of http.DefaultTransport
// if base is nil, and presents the certificate that the function returns to every server that asks
// for one: it is best used for the provider and its APIs alone.
//
// It is for the Base of both an Endpoint and a transport.Config, because access tokens may be
// bound to the certificate with which they were requested (RFC 8705 section 3). The function is
// called for each token request. Once a token has come with another certificate, no request to an
// API uses a connection that was made with the one before; until then they go on with that one, if
// it has not expired.
func WithCertificate(base *http.Transport, certificate func(*tls.CertificateRequestInfo) (*tls.Certificate, error)) http.RoundTripper {
	if base == nil {
		base, _ = http.DefaultTransport.(*http.Transport)
	}
	if base == nil { // Somebody has replaced that.
		base = &http.Transport{Proxy: http.ProxyFromEnvironment, ForceAttemptHTTP2: true}
	}
	return mutualtls.New(base, certificate)
}

// CertificateFile returns a function for WithCertificate, or for GetClientCertificate of a
// tls.Config. It reads the client's certificate, followed by those of the authorities between it
// and the root, from one PEM file, and its private key, such as KeyFile reads, from another, which
// may be the same.
//
// Files that are replaced are noticed at the next handshake. While they do not belong together,
// because one of them is yet to be replaced, or hold nothing whole, the old pair remains in use.
func CertificateFile(certFile, keyFile string) func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
	var mu sync.Mutex
	var content [2][]byte
	var pair *tls.Certificate
	return func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
		mu.Lock()
		defer mu.Unlock()
		now, err := readPair(certFile, keyFile)
		if err == nil && (pair == nil || !bytes.Equal(now[0], content[0]) || !bytes.Equal(now[1], content[1])) {
			var parsed tls.Certificate
			if parsed, err = tls.X509KeyPair(now[0], now[1]); err == nil { // They belong together.
				content, pair = now, &parsed
			} else {
				err = fmt.Errorf("%s, %s: %w", certFile, keyFile, err)
			}
		}
		if pair == nil {
			return nil, statement.Misconfigured("CertificateFile", "put a certificate and its private key in PEM there", err)
		}
		return pair, nil
	}
}

func readPair(files ...string) (pair [2][]byte, err error) {
	for i, name := range files {
		if pair[i], err = smallfile.Read(name); err != nil {
			return pair, fmt.Errorf("%s: %w", name, err)
		}
	}
	return pair, nil
}
