package endpoint

import (
	"crypto/tls"
	"crypto/x509"
	"io"
	"net/http"
	"net/http/httptest"
	"testing"

	"golang.org/x/oauth2"

	"github.com/stayauth/stayauth/tokencache"
)

// A client can prove who it is by its TLS certificate, which its Base presents; then no
// secret is sent (C50, RFC 8705 section 2).
func TestAClientCertificate(t *testing.T) {
	srv := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if len(r.TLS.PeerCertificates) != 1 || r.PostFormValue("client_id") != "client" || r.Header.Get("Authorization") != "" || r.PostForm.Has("client_secret") {
			t.Errorf("%d certificates, client %q", len(r.TLS.PeerCertificates), r.PostFormValue("client_id"))
		}
		w.Header().Set("Content-Type", "application/json")
		io.WriteString(w, `{"access_token":"new","token_type":"Bearer","expires_in":3600}`)
	}))
	srv.TLS = &tls.Config{ClientAuth: tls.RequireAnyClientCert}
	srv.StartTLS()
	defer srv.Close()
	pool := x509.NewCertPool()
	pool.AddCert(srv.Certificate())
	base := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool, Certificates: srv.TLS.Certificates}}
	defer base.CloseIdleConnections()
	e := &Endpoint{TokenURL: srv.URL, ClientID: "client", AuthStyle: oauth2.AuthStyleInParams, Base: base}
	rec, err := e.Refresh(t.Context(), &tokencache.Record{RefreshToken: "refresh", TokenURL: srv.URL})
	if err != nil || rec.AccessToken != "new" {
		t.Errorf("%v, %v", rec, err)
	}
}
