package export_test

import (
	"bytes"
	"crypto/ecdh"
	"crypto/hpke"
	"crypto/rand"
	"encoding/binary"
	"fmt"
	"io"
	"iter"
	"os"
	"slices"
	"testing"
	"testing/iotest"
	"time"

	"github.com/stayauth/stayauth/tokencache"
	"github.com/stayauth/stayauth/tokencache/export"
)

func newKeys(t testing.TB) (hpke.PublicKey, hpke.PrivateKey) {
	t.Helper()
	key, err := ecdh.P256().GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	private, err := hpke.NewDHKEMPrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return private.PublicKey(), private
}

func goldenKeys(t testing.TB) (hpke.PublicKey, hpke.PrivateKey) {
	t.Helper()
	file, err := os.ReadFile(goldens + "private.pem")
	if err != nil {
		t.Fatal(err)
	}
	private, err := export.ParsePrivateKey(file)
	if err != nil {
		t.Fatal(err)
	}
	return private.PublicKey(), private
}

// records returns n logins, always the same.
func records(n int) []*tokencache.Record { return slices.Collect(plain(many(n))) }

func many(n int) iter.Seq2[*tokencache.Record, error] {
	at := time.Date(2026, 11, 29, 12, 0, 0, 0, time.UTC)
	return func(yield func(*tokencache.Record, error) bool) {
		for i := range n {
			if !yield(&tokencache.Record{
				Key:         tokencache.Key{Issuer: "https://as.test", ClientID: "client", Account: fmt.Sprint("account ", i)},
				TokenURL:    "https://as.test/token",
				AccessToken: tokencache.Secret(fmt.Sprint("access token ", i)), RefreshToken: tokencache.Secret(fmt.Sprint("refresh token ", i)),
				AuthorizedAt: at, ObtainedAt: at.Add(time.Hour), LoginID: fmt.Sprint("login ", i), Generation: uint64(i + 1),
				Extra: map[string]tokencache.Secret{"instance_url": "https://a.test"},
			}, nil) {
				return
			}
		}
	}
}

func plain(records iter.Seq2[*tokencache.Record, error]) iter.Seq[*tokencache.Record] {
	return func(yield func(*tokencache.Record) bool) {
		for r := range records {
			if !yield(r) {
				return
			}
		}
	}
}

func written(t testing.TB, to hpke.PublicKey, all ...*tokencache.Record) []byte {
	t.Helper()
	var file bytes.Buffer
	if n, err := export.Write(&file, to, func(yield func(*tokencache.Record, error) bool) {
		for _, r := range all {
			if !yield(r, nil) {
				return
			}
		}
	}); n != len(all) || err != nil {
		t.Fatalf("wrote %d, %v", n, err)
	}
	return file.Bytes()
}

// read returns the records of a file up to the first error.
func read(file []byte, key hpke.PrivateKey) (all []*tokencache.Record, err error) {
	for r, err := range export.Read(bytes.NewReader(file), key) {
		if err != nil {
			return all, err
		}
		all = append(all, r)
	}
	return all, nil
}

// last returns the error that ends the records.
func last(records iter.Seq2[*tokencache.Record, error]) (err error) {
	for _, err = range records {
	}
	return err
}

// split returns the header of an export, and its frames.
func split(t *testing.T, file []byte) (parts [][]byte) {
	t.Helper()
	size := 31 + int(binary.BigEndian.Uint16(file[29:]))
	for len(file) > 0 {
		parts, file = append(parts, file[:size:size]), file[size:]
		if len(file) > 0 {
			size = 5 + int(binary.BigEndian.Uint32(file[1:]))
		}
	}
	if len(parts) != 5 {
		t.Fatalf("an export of three logins has %d parts", len(parts))
	}
	return parts
}

// flip returns a copy with some bits of byte i changed.
func flip(b []byte, i int, bits byte) []byte {
	b = bytes.Clone(b)
	b[i] ^= bits
	return b
}

// failing reads data and then fails.
func failing(data []byte, err error) io.Reader {
	return io.MultiReader(bytes.NewReader(data), iotest.ErrReader(err))
}

func memoryCache(t *testing.T) *tokencache.Cache {
	t.Helper()
	cache, err := tokencache.New(new(tokencache.Memory), nil)
	if err != nil {
		t.Fatal(err)
	}
	return cache
}
