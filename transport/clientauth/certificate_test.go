package clientauth_test

import (
	"crypto"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"math/big"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stayauth/stayauth/transport"
	"github.com/stayauth/stayauth/transport/clientauth"
	"github.com/stayauth/stayauth/transport/internal/testkit"
)

// newPair returns a certificate of a new key, and the key, in PEM.
func newPair(t testing.TB) (cert, key string) {
	t.Helper()
	signer := testkit.NewKey(t, "ES256")
	der, err := x509.MarshalPKCS8PrivateKey(signer)
	must(t, err)
	return certificateOf(t, signer), encode("PRIVATE KEY", der)
}

func certificateOf(t testing.TB, key crypto.Signer) string {
	t.Helper()
	serial, err := rand.Int(rand.Reader, big.NewInt(1<<62))
	must(t, err)
	template := &x509.Certificate{SerialNumber: serial, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	must(t, err)
	return encode("CERTIFICATE", der)
}

// A certificate that is replaced is in use from the next handshake on, and never together with
// the key of another one: whoever replaces two files does one after the other (C90).
func TestCertificateIsRenewed(t *testing.T) {
	dir := t.TempDir()
	certFile, keyFile := filepath.Join(dir, "tls.crt"), filepath.Join(dir, "tls.key")
	write := func(file, content string) { must(t, os.WriteFile(file, []byte(content), 0o600)) }
	get := clientauth.CertificateFile(certFile, keyFile)
	oldCert, oldKey := newPair(t)
	newCert, newKey := newPair(t)
	write(certFile, oldCert)
	write(keyFile, oldKey)
	for _, step := range []struct {
		name string
		do   func()
		want string
	}{
		{"first", func() {}, oldCert},
		{"half written", func() { write(certFile, newCert[:100]) }, oldCert},
		{"the certificate alone", func() { write(certFile, newCert) }, oldCert},
		{"the key too", func() { write(keyFile, newKey) }, newCert},
		{"removed", func() { must(t, os.Remove(keyFile)) }, newCert},
		{"both in one", func() { write(certFile, oldCert+oldKey); write(keyFile, oldCert+oldKey) }, oldCert},
	} {
		step.do()
		for range 2 {
			got, err := get(new(tls.CertificateRequestInfo))
			if err != nil {
				t.Fatalf("%s: %v", step.name, err)
			}
			if encode("CERTIFICATE", got.Certificate[0]) != step.want {
				t.Errorf("%s: another certificate is in use", step.name)
			}
			if public := got.PrivateKey.(crypto.Signer).Public(); !public.(interface{ Equal(crypto.PublicKey) bool }).Equal(got.Leaf.PublicKey) {
				t.Errorf("%s: the key is that of another certificate", step.name)
			}
		}
	}
	first, _ := get(nil)
	if again, _ := get(nil); again != first {
		t.Error("a pair that is the same is parsed again")
	}
}

// What is wrong with the files is said, and nothing of what they hold.
func TestCertificateFilesThatAreNone(t *testing.T) {
	dir := t.TempDir()
	cert, key := newPair(t)
	_, other := newPair(t)
	file := func(name, content string) string {
		name = filepath.Join(dir, name)
		must(t, os.WriteFile(name, []byte(content), 0o600))
		return name
	}
	good := file("good", cert+key)
	for _, tt := range []struct{ name, cert, key, says string }{
		{"no file", filepath.Join(dir, "none"), good, "none"},
		{"a directory", dir, good, "regular"},
		{"no key", good, file("cert", cert), "rather than a key"},
		{"no certificate", file("key", key), good, "certificate"},
		{"another's key", good, file("other", other), "does not match"},
		{"empty", file("empty", ""), good, "empty"},
		{"too long", file("long", strings.Repeat("secret", 1<<18)), good, "too long"},
		{"no PEM", file("text", "sk-secret-text"), good, "text"},
	} {
		_, err := clientauth.CertificateFile(tt.cert, tt.key)(nil)
		if wantError(t, err, transport.ErrMisconfigured); !strings.Contains(err.Error(), tt.says) || strings.Contains(err.Error(), "secret") {
			t.Errorf("%s: %v", tt.name, err)
		}
	}
}
