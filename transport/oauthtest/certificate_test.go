package oauthtest

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"math/big"
	"net/http"
	"net/url"
	"testing"
	"time"
)

// A client is known by its certificate alone, and a token that it gets is good on connections
// that are made with that one (RFC 8705).
func TestCertificates(t *testing.T) {
	certificate := func() *tls.Certificate {
		key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour), ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}}
		der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
		if err != nil {
			t.Fatal(err)
		}
		leaf, err := x509.ParseCertificate(der)
		if err != nil {
			t.Fatal(err)
		}
		return &tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key, Leaf: leaf}
	}
	mine, alsoMine, stranger := certificate(), certificate(), certificate()
	known := x509.NewCertPool()
	known.AddCert(mine.Leaf)
	known.AddCert(alsoMine.Leaf)
	s := New(Config{AuthStyle: AuthCertificate, ClientCertificates: known})
	if err := s.StartTLS(); err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	client := func(certificates ...*tls.Certificate) *http.Client {
		rt := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: s.CertPool()}}
		for _, c := range certificates {
			rt.TLSClientConfig.Certificates = append(rt.TLSClientConfig.Certificates, *c)
		}
		t.Cleanup(rt.CloseIdleConnections)
		return &http.Client{Transport: rt}
	}
	request := func(c *http.Client, form url.Values) (status int, token string) {
		form.Set("grant_type", "client_credentials")
		resp, err := c.PostForm(s.TokenURL(), form)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		var answer struct {
			Token string `json:"access_token"`
		}
		if err := json.NewDecoder(resp.Body).Decode(&answer); err != nil {
			t.Fatal(err)
		}
		return resp.StatusCode, answer.Token
	}
	id := url.Values{"client_id": {s.ClientID()}}
	for name, c := range map[string]*http.Client{"none": client(), "a stranger's": client(stranger)} {
		if status, _ := request(c, id); status != http.StatusUnauthorized {
			t.Errorf("%s: %d", name, status)
		}
	}
	if status, _ := request(client(mine), url.Values{"client_id": {"another"}}); status != http.StatusUnauthorized {
		t.Errorf("another client: %d", status)
	}
	if status, _ := request(client(mine), url.Values{"client_id": {s.ClientID()}, "client_secret": {"guessed"}}); status != http.StatusUnauthorized {
		t.Errorf("a secret in its place: %d", status)
	}
	status, token := request(client(mine), id)
	if status != http.StatusOK {
		t.Fatalf("the client: %d", status)
	}
	for _, tt := range []struct {
		name string
		c    *http.Client
		want int
	}{{"its certificate", client(mine), 200}, {"another of the client", client(alsoMine), 401}, {"a stranger's", client(stranger), 401}, {"none", client(), 401}} {
		req, _ := http.NewRequest(http.MethodGet, s.APIURL(), nil)
		req.Header.Set("Authorization", "Bearer "+token)
		resp, err := tt.c.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if resp.StatusCode != tt.want {
			t.Errorf("%s: the API answers %d", tt.name, resp.StatusCode)
		}
	}
}
