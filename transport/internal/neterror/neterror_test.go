package neterror

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"net/url"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/oauth2"
)

// What describes a connection is told, and nothing that may quote what was sent.
func TestSafe(t *testing.T) {
	refused := &net.OpError{Op: "dial", Net: "tcp", Err: syscall.ECONNREFUSED}
	for _, tt := range []struct {
		err  error
		want string
	}{
		{refused, "connection refused"},
		{&url.Error{Op: "Post", URL: "https://user:hunter2@as.test", Err: refused}, "connection refused"},
		{fmt.Errorf("hunter2: %w", io.ErrUnexpectedEOF), "unexpected EOF"},
		{fmt.Errorf("hunter2: %w", context.DeadlineExceeded), "deadline exceeded"},
		{errors.New("Proxy Authentication Required"), "the proxy answered: Proxy Authentication Required"},
		{errors.New("hunter2"), "an error of type *errors.errorString"},
		{fmt.Errorf("invalid proxy address hunter2: %w", errors.New("hunter2")), "an error of type *fmt.wrapError of *errors.errorString"},
	} {
		if got := Safe(tt.err).Error(); !strings.Contains(got, tt.want) || strings.Contains(got, "hunter2") {
			t.Errorf("%T: %q, want %q", tt.err, got, tt.want)
		}
	}
}

// A server says in an alert that it does not accept a client's certificate. Other alerts, and what
// only looks like one, are something else.
func TestRefusesCertificate(t *testing.T) {
	server, err := tls.X509KeyPair(testCertificate(t))
	if err != nil {
		t.Fatal(err)
	}
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		for name, tt := range map[string]struct {
			config *tls.Config
			want   bool
		}{
			"none":          {&tls.Config{ClientAuth: tls.RequireAnyClientCert}, version == tls.VersionTLS13}, // Before, there is no such alert.
			"unknown":       {&tls.Config{ClientAuth: tls.RequireAndVerifyClientCert}, true},
			"other version": {&tls.Config{MinVersion: tls.VersionTLS13 + 1, MaxVersion: tls.VersionTLS13 + 1}, false},
		} {
			client, far := net.Pipe()
			tt.config.Certificates = []tls.Certificate{server}
			go func() {
				tls.Server(far, tt.config).Handshake()
				io.Copy(io.Discard, far)
			}()
			config := &tls.Config{InsecureSkipVerify: true, MaxVersion: version}
			if name == "unknown" {
				config.Certificates = []tls.Certificate{server}
			}
			conn := tls.Client(client, config)
			_, err := conn.Read(make([]byte, 1))
			if RefusesCertificate(err) != tt.want {
				t.Errorf("%s, version %x: %v", name, version, err)
			}
			client.Close()
		}
	}
	if RefusesCertificate(&net.OpError{Op: "remote error", Err: errors.New("tls: bad certificate")}) || RefusesCertificate(&net.OpError{Op: "remote error"}) || RefusesCertificate(nil) {
		t.Error("what is no alert counts as one")
	}
}

func testCertificate(t *testing.T) (certificate, key []byte) {
	t.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1)}
	cert, err1 := x509.CreateCertificate(rand.Reader, template, template, k.Public(), k)
	der, err2 := x509.MarshalPKCS8PrivateKey(k)
	if err1 != nil || err2 != nil {
		t.Fatal(err1, err2)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert}), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})
}

// What a key service says is told, but no address, request or answer that it quotes.
func TestUnquoted(t *testing.T) {
	refused := &oauth2.RetrieveError{Response: &http.Response{StatusCode: 401}, Body: []byte("hunter2")}
	for _, tt := range []struct {
		err  error
		want string
	}{
		{errors.New("the key is disabled"), "the key is disabled"},
		{fmt.Errorf("kms: %w", &url.Error{Op: "Post", URL: "https://kms.test/hunter2", Err: io.EOF}), "EOF"},
		{fmt.Errorf("kms hunter2: %w", refused), "a token request was answered with status 401"},
		{&url.Error{Op: "Post", URL: "https://kms.test/hunter2", Err: refused}, "an error of type *oauth2.RetrieveError"},
		{&oauth2.RetrieveError{Body: []byte("hunter2")}, "a token request failed"},
	} {
		if got := Unquoted(tt.err).Error(); got != tt.want {
			t.Errorf("%T: %q, want %q", tt.err, got, tt.want)
		}
	}
}
