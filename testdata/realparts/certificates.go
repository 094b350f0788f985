package realparts

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// A CA is a certificate authority that nobody trusts who is not told to.
type CA struct {
	File string // its certificate

	t    testing.TB
	dir  string
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

// NewCA makes one.
func NewCA(t testing.TB) *CA {
	t.Helper()
	ca := &CA{t: t, dir: t.TempDir()}
	ca.cert = &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test CA"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	ca.key = ca.newKey()
	ca.File = ca.write("ca.crt", "CERTIFICATE", ca.sign(ca.cert, ca.key))
	return ca
}

// Issue makes a certificate for a server at the IP address, and returns the files of it
// and of its key, PEM.
func (ca *CA) Issue(ip string) (certFile, keyFile string) {
	ca.t.Helper()
	return ca.issue(ip, &x509.Certificate{
		Subject:     pkix.Name{CommonName: "test server"},
		IPAddresses: []net.IP{net.ParseIP(ip)}, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	})
}

// IssueClient makes a certificate for a client, whose subject is "CN=" and the name. One that was
// made before under that name is replaced, as when it is renewed: first the certificate and then
// the key.
func (ca *CA) IssueClient(name string) (certFile, keyFile string) {
	ca.t.Helper()
	return ca.issue(name, &x509.Certificate{
		Subject: pkix.Name{CommonName: name}, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	})
}

func (ca *CA) issue(name string, cert *x509.Certificate) (certFile, keyFile string) {
	ca.t.Helper()
	key := ca.newKey()
	cert.SerialNumber, cert.NotBefore, cert.NotAfter = big.NewInt(time.Now().UnixNano()), ca.cert.NotBefore, ca.cert.NotAfter
	signed := ca.sign(cert, key)
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		ca.t.Fatal(err)
	}
	return ca.write(name+".crt", "CERTIFICATE", signed), ca.write(name+".key", "PRIVATE KEY", der)
}

// Pool is what a client trusts that trusts only ca.
func (ca *CA) Pool() *x509.CertPool {
	pool := x509.NewCertPool()
	pem, err := os.ReadFile(ca.File)
	if err != nil || !pool.AppendCertsFromPEM(pem) {
		ca.t.Fatal("no certificate in ", ca.File, err)
	}
	return pool
}

func (ca *CA) newKey() *ecdsa.PrivateKey {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		ca.t.Fatal(err)
	}
	return key
}

func (ca *CA) sign(cert *x509.Certificate, key *ecdsa.PrivateKey) (der []byte) {
	der, err := x509.CreateCertificate(rand.Reader, cert, ca.cert, &key.PublicKey, ca.key)
	if err != nil {
		ca.t.Fatal(err)
	}
	return der
}

func (ca *CA) write(name, kind string, der []byte) (file string) {
	file = filepath.Join(ca.dir, name)
	if err := os.WriteFile(file, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600); err != nil {
		ca.t.Fatal(err)
	}
	return file
}
