package clientauth_test

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"math/big"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stayauth/stayauth/testdata/realparts"
	"github.com/stayauth/stayauth/tokencache"
	"github.com/stayauth/stayauth/transport"
	"github.com/stayauth/stayauth/transport/clientauth"
	"github.com/stayauth/stayauth/transport/internal/testkit"
	"github.com/stayauth/stayauth/transport/oauthtest"
)

// A key that is replaced while the program runs fails no call, and the old one is not used
// again (C82).
func TestKeyIsRotated(t *testing.T) {
	old, newer := testkit.NewKey(t, "RS256"), testkit.NewKey(t, "ES256")
	path := keyPath(t)
	writeKey(t, path, old)
	synctest.Test(t, func(t *testing.T) {
		srv, e := server(t, oauthtest.Config{Policy: oauthtest.StrictFamily}, old, newer)
		file := clientauth.KeyFile(path, "k")
		e.ClientAuth = &clientauth.PrivateKey{Key: file}
		s := source(t, e)
		if err := s.Login(t.Context(), record(srv, "ann")); err != nil {
			t.Fatal(err)
		}
		for i, step := range []func(){
			func() {},
			func() { must(t, os.WriteFile(path, []byte("-----BEGIN PRIVATE"), 0o600)) }, // it is being written
			func() { must(t, os.Remove(path)) },
			func() { writeKey(t, path, newer) },
		} {
			step()
			time.Sleep(2 * time.Hour)
			if _, err := s.Token(t.Context()); err != nil {
				t.Errorf("step %d: %v", i, err)
			}
		}
		key, err := file(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if !newer.Public().(*ecdsa.PublicKey).Equal(key.Signer.Public()) || key.ID != "k" {
			t.Error("the old key is in use")
		}
		if n := srv.Counts(); n.Rotations != 4 || n.RepeatedAssertions != 0 {
			t.Errorf("%+v", n)
		}
	})
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func encode(kind string, der []byte) string {
	return string(pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}))
}

// selfSigned returns a certificate of the key.
func selfSigned(t *testing.T, key crypto.Signer) string {
	t.Helper()
	template := &x509.Certificate{SerialNumber: big.NewInt(1)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	must(t, err)
	return encode("CERTIFICATE", der)
}

// What a file may hold, and what is said about any other. No error shows anything of it.
func TestKeyFile(t *testing.T) {
	ec, ed := testkit.NewKey(t, "ES256"), testkit.NewKey(t, "EdDSA")
	rsaKey := testkit.NewKey(t, "RS256").(*rsa.PrivateKey)
	pkcs8 := func(key any) string {
		der, err := x509.MarshalPKCS8PrivateKey(key)
		must(t, err)
		return encode("PRIVATE KEY", der)
	}
	for _, tt := range []struct {
		name, content string
		says          string // "": it is read
		certificate   bool
	}{
		{"PKCS #8 ECDSA", pkcs8(ec), "", false},
		{"PKCS #8 Ed25519", pkcs8(ed), "", false},
		{"PKCS #1", encode("RSA PRIVATE KEY", x509.MarshalPKCS1PrivateKey(rsaKey)), "", false},
		{"text around", "my key\n" + pkcs8(ec) + "\nend", "", false},
		{"certificates", selfSigned(t, ed) + pkcs8(ec) + selfSigned(t, ec), "", true},
		{"another's certificate", pkcs8(ec) + selfSigned(t, ed), "", false},
		{"empty", "", "no private key", false},
		{"no PEM", "sk-secret-text", "no private key", false},
		{"certificate alone", selfSigned(t, ec), "no private key", false},
		{"two keys", pkcs8(ec) + pkcs8(ed), "more than one", false},
		{"encrypted", encode("ENCRYPTED PRIVATE KEY", []byte("secret")), "encrypted", false},
		{"encrypted as of old", "-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\nDEK-Info: AES-256-CBC,00\n\nc2VjcmV0\n-----END RSA PRIVATE KEY-----\n", "encrypted", false},
		{"damaged", encode("PRIVATE KEY", []byte("secret")), "damaged", false},
		{"too long", strings.Repeat("secret", 1<<18), "too long", false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			path := keyPath(t)
			must(t, os.WriteFile(path, []byte(tt.content), 0o600))
			key, err := clientauth.KeyFile(path, "")(t.Context())
			if tt.says == "" {
				must(t, err)
				if (key.Certificate != nil) != tt.certificate {
					t.Errorf("certificate %v", key.Certificate)
				}
				return
			}
			if wantError(t, err, transport.ErrMisconfigured); !strings.Contains(err.Error(), tt.says) || !strings.Contains(err.Error(), path) || strings.Contains(err.Error(), "secret") {
				t.Errorf("got %v", err)
			}
		})
	}
	_, err := clientauth.KeyFile(filepath.Join(t.TempDir(), "none"), "")(t.Context())
	if wantError(t, err, transport.ErrMisconfigured); !strings.Contains(err.Error(), "no such file") && !strings.Contains(err.Error(), "cannot find") {
		t.Errorf("got %v", err)
	}
}

// A key that comes late, as from a secret that is mounted late, is used within seconds.
func TestALateKey(t *testing.T) {
	key := testkit.NewKey(t, "ES256")
	path := keyPath(t)
	synctest.Test(t, func(t *testing.T) {
		_, e := server(t, oauthtest.Config{}, key)
		e.ClientAuth = &clientauth.PrivateKey{Key: clientauth.KeyFile(path, "k")}
		cache, err := tokencache.New(new(tokencache.Memory), nil)
		must(t, err)
		s, err := transport.NewSource(transport.SourceConfig{Cache: cache, Refresher: e.ClientCredentials()})
		must(t, err)
		_, err = s.Token(t.Context())
		wantError(t, err, transport.ErrMisconfigured)
		writeKey(t, path, key)
		time.Sleep(10 * time.Second)
		if _, err := s.Token(t.Context()); err != nil {
			t.Error(err)
		}
	})
}

// The keys that openssl makes are read.
func TestKeysOfOpenSSL(t *testing.T) {
	openssl, err := exec.LookPath("openssl")
	realparts.Require(t, "openssl", err)
	for name, args := range map[string][]string{
		"P-256":            {"genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256"},
		"P-256, as of old": {"ecparam", "-name", "prime256v1", "-genkey", "-noout"},
		"RSA":              {"genpkey", "-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048"},
		"RSA, as of old":   {"genrsa", "-traditional", "2048"},
		"Ed25519":          {"genpkey", "-algorithm", "ED25519"},
	} {
		t.Run(name, func(t *testing.T) {
			path := keyPath(t)
			out, err := exec.Command(openssl, args...).Output()
			must(t, err)
			must(t, os.WriteFile(path, out, 0o600))
			_, e := server(t, oauthtest.Config{})
			e.ClientAuth = &clientauth.PrivateKey{Key: clientauth.KeyFile(path, "")}
			_, err = e.ClientCredentials().Refresh(t.Context(), new(tokencache.Record))
			// It has signed; the server does not know the key.
			if told := wantError(t, err, transport.ErrMisconfigured); told.Code != "invalid_client" {
				t.Errorf("got %v", err)
			}
		})
	}
}

// The token of a platform is read anew for each request: whoever renews it does that before it
// expires (C84).
func TestTokenFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "token")
	srv, e := server(t, oauthtest.Config{})
	e.ClientAuth = clientauth.TokenFile(path)
	for _, tt := range []struct {
		content *string
		sent    string
		says    string
	}{
		{nil, "", path},
		{new(string), "", "empty"},
		{ptr("eyJ.first.x\n"), "eyJ.first.x", ""},
		{ptr("eyJ.second.x"), "eyJ.second.x", ""},
	} {
		if tt.content != nil {
			must(t, os.WriteFile(path, []byte(*tt.content), 0o600))
		}
		before := srv.Counts().Assertions
		_, err := e.ClientCredentials().Refresh(t.Context(), new(tokencache.Record))
		if tt.sent == "" {
			if wantError(t, err, transport.ErrUnavailable); !strings.Contains(err.Error(), tt.says) || srv.Counts().Assertions != before {
				t.Errorf("got %v", err)
			}
		} else if told := wantError(t, err, transport.ErrMisconfigured); told.Code != "invalid_client" || srv.Counts().Assertions != before+1 || strings.Contains(err.Error(), "eyJ") {
			t.Errorf("got %v", err)
		}
	}
}

// What is no token, such as the private key that somebody has named by mistake, is never sent.
func TestTokenThatIsNone(t *testing.T) {
	path := keyPath(t)
	writeKey(t, path, testkit.NewKey(t, "ES256"))
	returns := func(s tokencache.Secret) clientauth.Token {
		return func(context.Context) (tokencache.Secret, error) { return s, nil }
	}
	for name, auth := range map[string]clientauth.Token{
		"a private key": clientauth.TokenFile(path),
		"a password":    returns("secret-password"),
		"lines":         returns("eyJ.secret\n.x"),
		"nil":           nil,
	} {
		t.Run(name, func(t *testing.T) {
			srv, e := server(t, oauthtest.Config{})
			e.ClientAuth = auth
			_, err := e.ClientCredentials().Refresh(t.Context(), new(tokencache.Record))
			if wantError(t, err, transport.ErrMisconfigured); srv.Counts().Assertions != 0 || strings.Contains(err.Error(), "secret") {
				t.Errorf("got %v", err)
			}
		})
	}
}

// A directory or a device in place of a file is said at once, and not waited for.
func TestFilesThatAreNone(t *testing.T) {
	for _, path := range []string{t.TempDir(), os.DevNull} {
		_, err := clientauth.KeyFile(path, "")(t.Context())
		if wantError(t, err, transport.ErrMisconfigured); !strings.Contains(err.Error(), "regular") {
			t.Errorf("got %v", err)
		}
		if _, err := clientauth.TokenFile(path)(t.Context()); err == nil || !strings.Contains(err.Error(), "regular") {
			t.Errorf("got %v", err)
		}
	}
}

func ptr(s string) *string { return &s }
