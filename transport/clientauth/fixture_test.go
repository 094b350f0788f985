package clientauth_test

import (
	"context"
	"crypto"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/stayauth/stayauth/transport"
	"github.com/stayauth/stayauth/transport/clientauth"
	"github.com/stayauth/stayauth/transport/endpoint"
	"github.com/stayauth/stayauth/transport/oauthtest"
)

// fixed returns a function for PrivateKey.Key.
func fixed(key clientauth.Key) func(context.Context) (*clientauth.Key, error) {
	return func(context.Context) (*clientauth.Key, error) { return &key, nil }
}

// writeKey writes a key as PKCS #8 to a new file, in one step, as whoever rotates keys should.
func writeKey(t testing.TB, path string, key crypto.Signer) {
	t.Helper()
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err == nil {
		err = os.WriteFile(path+".new", pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), 0o600)
	}
	if err == nil {
		err = os.Rename(path+".new", path)
	}
	if err != nil {
		t.Fatal(err)
	}
}

func keyPath(t testing.TB) string { return filepath.Join(t.TempDir(), "key.pem") }

// server returns a provider that knows the keys, and an endpoint that has yet to prove who it
// is.
func server(t testing.TB, cfg oauthtest.Config, keys ...crypto.Signer) (*oauthtest.Server, *endpoint.Endpoint) {
	t.Helper()
	cfg.AuthStyle = oauthtest.AuthPrivateKey
	for _, k := range keys {
		cfg.ClientKeys = append(cfg.ClientKeys, k.Public())
	}
	srv := oauthtest.New(cfg)
	t.Cleanup(srv.Close)
	return srv, &endpoint.Endpoint{Issuer: srv.URL(), TokenURL: srv.TokenURL(), RevocationURL: srv.URL() + "/revoke",
		ClientID: srv.ClientID(), Base: srv.RoundTripper()}
}

func wantError(t *testing.T, err error, kind transport.Kind) *transport.Error {
	t.Helper()
	e, ok := errors.AsType[*transport.Error](err)
	if !ok || e.Kind != kind {
		t.Fatalf("got %v, want an error of kind %q", err, kind)
	}
	return e
}
