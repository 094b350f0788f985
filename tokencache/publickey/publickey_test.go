package publickey

import (
	"bytes"
	"crypto/ecdh"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/fips140"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/stayauth/stayauth/tokencache"
)

// pemPair returns a new key and its public half, as openssl writes them.
func pemPair(t testing.TB, curve elliptic.Curve) (private, public []byte) {
	t.Helper()
	key, err := ecdsa.GenerateKey(curve, rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return pemBlocks(t, key, &key.PublicKey)
}

func pemBlocks(t testing.TB, key, half any) (private, public []byte) {
	t.Helper()
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	private = pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})
	if der, err = x509.MarshalPKIXPublicKey(half); err != nil {
		t.Fatal(err)
	}
	return private, pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})
}

func publicKeys(t testing.TB, keys ...[]byte) *Wrapper {
	t.Helper()
	w, err := NewWrapper(bytes.Join(keys, nil))
	if err != nil {
		t.Fatal(err)
	}
	return w
}

// What is wrapped with a public key opens with its private half alone, on every curve and after
// a new key was put before the old one.
func TestWrapper(t *testing.T) {
	ctx, key := t.Context(), bytes.Repeat([]byte{7}, 32)
	type pair struct{ private, public []byte }
	pairs := map[string]pair{}
	for _, curve := range []elliptic.Curve{elliptic.P256(), elliptic.P384(), elliptic.P521()} {
		private, public := pemPair(t, curve)
		pairs[curve.Params().Name] = pair{private, public}
	}
	if !fips140.Enforced() {
		x, err := ecdh.X25519().GenerateKey(rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		private, public := pemBlocks(t, x, x.PublicKey())
		pairs["X25519"] = pair{private, public}
	}
	newer, _ := pemPair(t, elliptic.P256())
	for name, p := range pairs {
		t.Run(name, func(t *testing.T) {
			alone := publicKeys(t, p.public)
			wrapped, err := alone.WrapKey(ctx, key)
			if err != nil {
				t.Fatal(err)
			}
			again, err := alone.WrapKey(ctx, key)
			if err != nil || bytes.Equal(again.Data, wrapped.Data) || again.KeyID != wrapped.KeyID {
				t.Errorf("wrapped twice: the same bytes, or another key id (%v)", err)
			}
			for who, w := range map[string]*Wrapper{
				"the private key":         publicKeys(t, p.private),
				"public and private":      publicKeys(t, p.public, p.private),
				"a newer key is first":    publicKeys(t, newer, p.private),
				"somebody else's private": publicKeys(t, p.public, newer),
				"the public key alone":    alone,
			} {
				got, err := w.UnwrapKey(ctx, wrapped)
				if opens := !strings.Contains(who, "alone") && !strings.Contains(who, "else"); opens && (err != nil || !bytes.Equal(got, key)) {
					t.Errorf("%s: %v", who, err)
				} else if !opens && !errors.Is(err, tokencache.ErrCorrupt) {
					t.Errorf("%s: %v, want ErrCorrupt", who, err)
				}
			}
			forged := tokencache.WrappedKey{KeyID: wrapped.KeyID, Data: bytes.Clone(wrapped.Data)}
			forged.Data[len(forged.Data)-1] ^= 1
			if _, err := publicKeys(t, p.private).UnwrapKey(ctx, forged); !errors.Is(err, tokencache.ErrCorrupt) {
				t.Errorf("forged: %v", err)
			}
			now, err := publicKeys(t, newer, p.private).WrapKey(ctx, key)
			if err != nil || now.KeyID == wrapped.KeyID {
				t.Errorf("the first key does not wrap: %v", err)
			}
		})
	}
}

// Whoever configures the wrong file is told what is wrong with it, without being shown it.
func TestWrapperSaysWhatIsWrong(t *testing.T) {
	private, public := pemPair(t, elliptic.P256())
	edPublic, edPrivate, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	signing, _ := pemBlocks(t, edPrivate, edPublic)
	for name, tt := range map[string]struct {
		in   []byte
		want string
	}{
		"nothing":   {nil, "no key was found"},
		"no PEM":    {[]byte("secret"), "no key was found"},
		"rubbish":   {append(bytes.Clone(public), "secret"...), "not PEM follows"},
		"signing":   {signing, "elliptic-curve key"},
		"SEC 1":     {bytes.ReplaceAll(private, []byte("PRIVATE"), []byte("EC PRIVATE")), "openssl pkey"},
		"encrypted": {bytes.ReplaceAll(private, []byte("PRIVATE"), []byte("ENCRYPTED PRIVATE")), "encrypted"},
		"damaged":   {bytes.ReplaceAll(private, []byte("PRIVATE"), []byte("PUBLIC")), "damaged"},
		"second":    {append(bytes.Clone(public), signing...), "block 2"},
	} {
		_, err := NewWrapper(tt.in)
		if err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: %v, want %q", name, err, tt.want)
		}
		for _, secret := range []string{"secret", string(private[30:60])} {
			if err != nil && strings.Contains(err.Error(), secret) {
				t.Errorf("%s: the error quotes the file: %v", name, err)
			}
		}
	}
}

// A private key does not show wherever its wrapper is printed.
func TestWrapperPrintsNoKey(t *testing.T) {
	private, _ := pemPair(t, elliptic.P256())
	keys, err := parse(private)
	if err != nil {
		t.Fatal(err)
	}
	secret, err := keys.private[0].Bytes()
	if err != nil {
		t.Fatal(err)
	}
	w := publicKeys(t, private)
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%x", "%d", "%q"} {
		printed := fmt.Sprintf(verb, w) + fmt.Sprintf(verb, struct{ w tokencache.KeyWrapper }{w})
		for _, form := range []string{string(secret), fmt.Sprintf("%x", secret), strings.Trim(fmt.Sprint(secret), "[]")} {
			if strings.Contains(printed, form) {
				t.Errorf("%s shows the key", verb)
			}
		}
	}
}

func FuzzParse(f *testing.F) {
	golden, err := os.ReadFile("../../testdata/records/v1/enveloped.pem")
	if err != nil {
		f.Fatal(err)
	}
	f.Add(golden)
	f.Add([]byte("-----BEGIN PUBLIC KEY-----\n-----END PUBLIC KEY-----\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		keys, err := parse(data)
		if err == nil && (keys.public == nil || len(keyID(keys.public)) != 32) {
			t.Fatal("neither a key nor an error")
		}
	})
}
