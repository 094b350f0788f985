package testkit_test

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io/fs"
	"math/big"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stayauth/stayauth/transport/internal/jws"
	"github.com/stayauth/stayauth/transport/internal/testkit"
	"github.com/stayauth/stayauth/transport/oauthtest"
)

// A test of the search prints this.
const printEnv = "STAYAUTH_TEST_PRINTS"

func TestMain(m *testing.M) { testkit.Main(m) }

// forms are those in which a key is printed by mistake.
func forms(t *testing.T, key crypto.Signer) map[string]string {
	t.Helper()
	all := map[string]string{"%v": fmt.Sprintf("%v", key), "%+v": fmt.Sprintf("%+v", key)}
	der := func(name string, b []byte, err error) {
		if err != nil {
			t.Fatal(err)
		}
		block, _ := json.Marshal(string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: b})))
		all[name+", PEM"], all[name+", PEM in JSON"] = string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: b})), string(block)
		all[name+", base64"] = base64.StdEncoding.EncodeToString(b)
		all[name+", base64url"] = base64.RawURLEncoding.EncodeToString(b)
		all[name+", hex"] = hex.EncodeToString(b)
		all[name+", bytes"] = fmt.Sprint(b)
	}
	b, err := x509.MarshalPKCS8PrivateKey(key)
	der("PKCS #8", b, err)
	var d []byte
	switch key := key.(type) {
	case *ecdsa.PrivateKey:
		b, err := x509.MarshalECPrivateKey(key)
		der("SEC 1", b, err)
		d, _ = key.Bytes()
	case *rsa.PrivateKey:
		der("PKCS #1", x509.MarshalPKCS1PrivateKey(key), nil)
		d = key.D.Bytes()
	case ed25519.PrivateKey:
		d = key.Seed()
	}
	all["d, hex"], all["d, base64"], all["d, decimal"] = hex.EncodeToString(d), base64.StdEncoding.EncodeToString(d), new(big.Int).SetBytes(d).String()
	all["JWK"] = fmt.Sprintf(`{"kty":"EC","d":"%s"}`, base64.RawURLEncoding.EncodeToString(d))
	return all
}

// Whatever a test prints is searched for private keys in every form, and for what they sign:
// printed by a process of its own, each makes that fail.
func TestPrintedSecretsAreFound(t *testing.T) {
	if text := os.Getenv(printEnv); text != "" {
		if alg, form, ok := strings.Cut(text, ", d, "); ok { // This has no shape, so the process has to know the key.
			text = forms(t, testkit.NewKey(t, alg))["d, "+form]
		}
		fmt.Println("here is", text, "again")
		return
	}
	printed := map[string]string{}
	for _, alg := range []string{jws.ES256, jws.RS256, jws.EdDSA} {
		key := testkit.NewKey(t, alg)
		for form, text := range forms(t, key) {
			printed[alg+", "+form] = text
		}
		assertion, err := jws.Sign(key, "", map[string]any{}, map[string]any{"iss": "client"})
		if err != nil {
			t.Fatal(err)
		}
		printed[alg+", assertion"], printed[alg+", form"] = assertion, "client_assertion="+assertion+"&x=y"
	}
	srv := oauthtest.New(oauthtest.Config{})
	printed["token"] = srv.Login("ann").RefreshToken
	for name, text := range printed {
		if !testkit.HasSecret(text) && !strings.Contains(name, ", d, ") {
			t.Errorf("%s: no shape of a secret is seen in it", name)
		}
	}
	for _, text := range []string{printed["ES256, PKCS #8, PEM"], printed["EdDSA, assertion"], printed["token"],
		"ES256, d, base64", "RS256, d, decimal", "EdDSA, d, hex"} {
		if out, err := prints(t, text); err == nil || !strings.Contains(out, "a secret was printed") {
			t.Errorf("%.16s is not found: %v", text, err)
		}
	}
	if _, err := prints(t, "nothing"); err != nil {
		t.Errorf("nothing secret: %v", err)
	}
}

// prints returns what is said when the test above prints the text.
func prints(t *testing.T, text string) (string, error) {
	t.Helper()
	cmd := exec.Command(os.Args[0], "-test.run=^TestPrintedSecretsAreFound$")
	cmd.Env = append(os.Environ(), printEnv+"="+text, testkit.SecretsFileEnv+"=")
	out, err := cmd.CombinedOutput()
	return string(out), err
}

// What is no secret may be printed: public keys, certificates' names, digests, messages.
func TestWhatMayBePrinted(t *testing.T) {
	for _, alg := range []string{jws.ES256, jws.RS256, jws.EdDSA} {
		key := testkit.NewKey(t, alg)
		der, err := x509.MarshalPKIXPublicKey(key.Public())
		if err != nil {
			t.Fatal(err)
		}
		jwk, _ := json.Marshal(testkit.JWK(key, alg, "k"))
		for _, text := range []string{base64.StdEncoding.EncodeToString(der), hex.EncodeToString(der), fmt.Sprint(der), fmt.Sprintf("%+v", key.Public()), string(jwk),
			fmt.Sprint(sha256.Sum256(der)), "no key was found: want \"-----BEGIN PRIVATE KEY-----\"", "eyJ.first.x", "at-secret"} {
			if testkit.HasSecret(text) {
				t.Errorf("%s: taken for a secret: %s", alg, text)
			}
		}
	}
}

// The output of every package is searched whose tests have a server or a key.
func TestEveryPackageIsSearched(t *testing.T) {
	has, searched := map[string]bool{}, map[string]bool{}
	err := filepath.WalkDir("../..", func(path string, d fs.DirEntry, err error) error {
		if err != nil || !strings.HasSuffix(path, "_test.go") {
			return err
		}
		text, err := os.ReadFile(path)
		dir := filepath.Dir(path)
		has[dir] = has[dir] || bytes.Contains(text, []byte("oauthtest.New(")) || bytes.Contains(text, []byte("testkit.NewKey("))
		searched[dir] = searched[dir] || bytes.Contains(text, []byte("testkit.Main("))
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	for dir := range has {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); has[dir] && !searched[dir] && err != nil {
			t.Errorf("%s: call testkit.Main in TestMain", dir)
		}
	}
}
