package clientauth

import (
	"bytes"
	"crypto/tls"
	"fmt"
	"sync"

	"github.com/stayauth/stayauth/transport/internal/smallfile"
	"github.com/stayauth/stayauth/transport/internal/statement"
)

// CertificateFile returns a function for GetClientCertificate of a tls.Config that reads the
// client's certificate, followed by those of the authorities between it and the root, from one
// PEM file, and its private key, such as KeyFile reads, from another, which may be the same.
//
// Files that are replaced are noticed at the next handshake. While they do not belong together,
// because one of them is yet to be replaced, or hold nothing whole, the old pair remains in use.
// The certificate is shown to every server that asks for one, so the http.Transport is best one
// for this provider and its APIs alone.
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
