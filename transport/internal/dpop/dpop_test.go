package dpop

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"
)

func request(t testing.TB, method, address string) *http.Request {
	t.Helper()
	r, err := http.NewRequest(method, address, nil)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// decode returns the header and the claims of the proof of a request.
func decode(t testing.TB, r *http.Request) (header, claims map[string]any) {
	t.Helper()
	parts := strings.Split(r.Header.Get("DPoP"), ".")
	if len(parts) != 3 {
		t.Fatalf("the proof has %d parts", len(parts))
	}
	for i, into := range []*map[string]any{&header, &claims} {
		raw, err := base64.RawURLEncoding.DecodeString(parts[i])
		if err == nil {
			err = json.Unmarshal(raw, into)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	return header, claims
}

func generate(t testing.TB) *Key {
	t.Helper()
	k, err := Generate()
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// A proof says what RFC 9449 section 4.2 wants, and nothing secret (C37, C55, C57).
func TestProof(t *testing.T) {
	_, ed, err1 := ed25519.GenerateKey(rand.Reader)
	rsaKey, err2 := rsa.GenerateKey(rand.Reader, 2048)
	if err := errors.Join(err1, err2); err != nil {
		t.Fatal(err)
	}
	mine := generate(t)
	own, err := Parse(mine.Private)
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		signer  crypto.Signer
		alg     string
		members int
	}{{own, "ES256", 4}, {ed, "EdDSA", 3}, {rsaKey, "PS256", 3}} {
		k, err := NewKey(tt.signer)
		if err != nil {
			t.Fatal(err)
		}
		var servers Servers
		first := request(t, "POST", "https://API.test:443/a%20b?q#f")
		begun := time.Now().Unix()
		if _, err := servers.Prove(t.Context(), k, first, "token"); err != nil {
			t.Fatal(err)
		}
		header, claims := decode(t, first)
		jwk, _ := header["jwk"].(map[string]any)
		if header["typ"] != "dpop+jwt" || header["alg"] != tt.alg || k.Algorithm() != tt.alg || len(jwk) != tt.members || jwk["d"] != nil || len(header) != 3 {
			t.Errorf("%s: the header is %v", tt.alg, header)
		}
		sum := sha256.Sum256([]byte("token"))
		id, _ := claims["jti"].(string)
		at, _ := claims["iat"].(float64)
		if claims["htm"] != "POST" || claims["htu"] != "https://api.test/a%20b" || claims["ath"] != base64.RawURLEncoding.EncodeToString(sum[:]) ||
			len(id) < 16 || int64(at) < begun || int64(at) > begun+60 || len(claims) != 5 {
			t.Errorf("%s: the proof says %v", tt.alg, claims)
		}
		second := request(t, "", "https://as.test")
		second.Header["DPoP"] = []string{"made by hand"}
		if _, err := servers.Prove(t.Context(), k, second, ""); err != nil {
			t.Fatal(err)
		}
		if _, claims := decode(t, second); claims["jti"] == id || claims["ath"] != nil || claims["htm"] != "GET" || claims["htu"] != "https://as.test/" {
			t.Errorf("%s: without a token, the proof says %v", tt.alg, claims)
		}
		//lint:ignore SA1008 as programs spell it that fill the map themselves
		if len(second.Header["DPoP"]) > 0 {
			t.Errorf("%s: there are two proofs", tt.alg)
		}
	}
}

// No other key signs (C55).
func TestKeysThatCannotProve(t *testing.T) {
	p384, err1 := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	if err1 != nil {
		t.Fatal(err1)
	}
	for name, signer := range map[string]crypto.Signer{"none": nil, "P-384": p384} {
		if k, err := NewKey(signer); err == nil {
			t.Errorf("%s: %s", name, k.Algorithm())
		}
	}
}

// htu is the URL that is really sent, in the form that servers compare (C56).
func TestTarget(t *testing.T) {
	for _, tt := range []struct {
		url  url.URL
		host string
		want string
	}{
		{url.URL{Scheme: "https", Host: "API.test:443", Path: "/a b", RawQuery: "q", Fragment: "f"}, "", "https://api.test/a%20b"},
		{url.URL{Scheme: "HTTPS", Host: "api.test:8443", Path: "/"}, "", "https://api.test:8443/"},
		{url.URL{Scheme: "http", Host: "127.0.0.1:80"}, "", "http://127.0.0.1/"},
		{url.URL{Scheme: "https", Host: "[::1]:443", Path: "/x"}, "", "https://[::1]/x"},
		{url.URL{Scheme: "https", Host: "[::1]:8443", Path: "/x"}, "", "https://[::1]:8443/x"},
		{url.URL{Scheme: "https", Host: "api.test", User: url.UserPassword("u", "p"), Path: "/x"}, "", "https://api.test/x"},
		{url.URL{Scheme: "https", Host: "10.0.0.1", Path: "/x"}, "Api.test", "https://api.test/x"},
		{url.URL{Scheme: "https", Host: "api.test", Path: "/a/b", RawPath: "/a%2Fb"}, "", "https://api.test/a%2Fb"},
		{url.URL{Scheme: "https", Host: "api.test", Opaque: "/a%2fb?q"}, "", "https://api.test/a%2fb"},
		{url.URL{Scheme: "https", Host: "proxy.test", Opaque: "//api.test/a%2fb?q"}, "", "https://api.test/a%2fb"},
	} {
		from, path := target(&http.Request{URL: &tt.url, Host: tt.host})
		if got := from + path; got != tt.want {
			t.Errorf("%+v: %s, want %s", tt.url, got, tt.want)
		}
	}
}

func FuzzTarget(f *testing.F) {
	f.Add("https://API.test:443/a%20b?q#f", "Other.test:80")
	f.Add("https:opaque", "")
	f.Fuzz(func(t *testing.T, address, host string) {
		u, err := url.Parse(address)
		if err != nil {
			return
		}
		if from, path := target(&http.Request{URL: u, Host: host}); strings.ContainsAny(path, "#") && u.Opaque == "" || strings.ToLower(from) != from {
			t.Errorf("%q with host %q: %q", address, host, from+path)
		}
	})
}

// heard is what an answer with the header says about a proof.
func heard(t *testing.T, s *Servers, k *Key, address string, header http.Header) (claims map[string]any, news News) {
	t.Helper()
	r := request(t, "GET", address)
	said, err := s.Prove(t.Context(), k, r, "")
	if err != nil {
		t.Fatal(err)
	}
	_, claims = decode(t, r)
	return claims, s.Heard(said, header)
}

// The newest nonce of an origin is in every proof for it, and in no other (C64, C65).
func TestNonces(t *testing.T) {
	var s Servers
	k := generate(t)
	const api, other = "https://api.test/a", "https://other.test/a"
	nonce := func(values ...string) http.Header { return http.Header{"Dpop-Nonce": values} }
	for i, step := range []struct {
		url, want string
		answer    http.Header
		news      bool
	}{
		{api, "", nonce("n1"), true},
		{api, "n1", nonce("n2"), true},
		{"https://API.test:443/b", "n2", nil, false},
		{other, "", nonce("o1"), true},
		{api, "n2", nonce("n3", "n4"), false},
		{api, "n2", nonce("n 3"), false},
		{api, "n2", nonce("n\"3"), false},
		{api, "n2", nonce(""), false},
		{api, "n2", nonce(strings.Repeat("n", maxNonce+1)), false},
		{api, "n2", nonce(strings.Repeat("!", maxNonce)), true},
		{api, strings.Repeat("!", maxNonce), nonce("n2"), true},
		{other, "o1", nonce("o1"), false},
	} {
		claims, news := heard(t, &s, k, step.url, step.answer)
		if got, _ := claims["nonce"].(string); got != step.want || news.Nonce != step.news {
			t.Errorf("step %d: nonce %.20q, news %v", i+1, got, news)
		}
	}
	for i := range 2 * maxServers {
		heard(t, &s, k, fmt.Sprintf("https://%d.test", i), nonce("n"))
	}
	if n := len(s.known); n > maxServers {
		t.Errorf("%d origins are remembered", n)
	}
}

// Proofs are dated by the clock of their server (C67).
func TestClocks(t *testing.T) {
	var s Servers
	k := generate(t)
	ahead := func(d time.Duration) http.Header {
		return http.Header{"Date": {time.Now().Add(d).UTC().Format(http.TimeFormat)}}
	}
	at := func(claims map[string]any) time.Duration {
		return time.Until(time.Unix(int64(claims["iat"].(float64)), 0))
	}
	for i, step := range []struct {
		url          string
		server, want time.Duration // the clock of the server, and of the proof
		news         bool
	}{
		{"https://a.test", 5 * time.Minute, 0, true},
		{"https://a.test", 5 * time.Minute, 5 * time.Minute, false},
		{"https://b.test", -5 * time.Minute, 0, true},
		{"https://b.test", -5 * time.Minute, -5 * time.Minute, false},
		{"https://a.test", 0, 5 * time.Minute, true},
		{"https://a.test", 0, 0, false},
		{"https://c.test", 14 * time.Hour, 0, true},
		{"https://c.test", 14 * time.Hour, 14 * time.Hour, false},
		{"https://d.test", -290 * 365 * 24 * time.Hour, 0, true},
		{"https://d.test", 0, -290 * 365 * 24 * time.Hour, true},
		{"https://d.test", 0, 0, false},
	} {
		claims, news := heard(t, &s, k, step.url, ahead(step.server))
		if off := at(claims) - step.want; off.Abs() > time.Minute || news.Clock != step.news {
			t.Errorf("step %d: the proof is %v off, news %v", i+1, off, news)
		}
	}
	for _, date := range []string{"soon", "Fri, 31 Dec 9999 23:59:59 GMT", time.Now().Add(25 * time.Hour).UTC().Format(http.TimeFormat)} {
		if _, news := heard(t, &s, k, "https://a.test", http.Header{"Date": {date}}); news.Clock {
			t.Errorf("the Date %s was believed", date)
		}
		if claims, _ := heard(t, &s, k, "https://a.test", nil); at(claims).Abs() > time.Minute {
			t.Errorf("after the Date %s, a proof is %v off", date, at(claims))
		}
	}
}

// What a cookie holds of a key is small, and is the same key (C68, C71).
func TestCompact(t *testing.T) {
	k := generate(t)
	compact := Compact(k.Private, k.Thumbprint)
	if len(k.Private) != 138 || len(compact) != 43 {
		t.Errorf("a key has %d bytes, %d in a cookie", len(k.Private), len(compact))
	}
	if private, thumbprint, err := Expand(compact); err != nil || private != k.Private || thumbprint != k.Thumbprint {
		t.Errorf("it becomes another key, %v", err)
	}
	if private, thumbprint, err := Expand(Compact("", "t")); err != nil || private != "" || thumbprint != "t" || Compact("", "") != "" {
		t.Errorf("a thumbprint becomes %q, %v", thumbprint, err)
	}
}

func FuzzExpand(f *testing.F) {
	f.Add("@thumbprint")
	f.Add(strings.Repeat("A", 43))
	f.Add("AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAE")
	f.Add("AAAAAAAAAAAAAAAAA\n\n\n\nAAAAAAAAAAAAAAAAAAAAAAAAAE")
	f.Fuzz(func(t *testing.T, compact string) {
		private, thumbprint, err := Expand(compact)
		if err != nil || thumbprint == "" {
			return
		}
		if again := Compact(private, thumbprint); again != compact {
			t.Errorf("%q becomes %q", compact, again)
		}
	})
}

// service is a key that cannot leave its place.
type service struct {
	crypto.Signer
	sign func() error
}

func (s service) Sign(r io.Reader, digest []byte, opts crypto.SignerOpts) ([]byte, error) {
	if err := s.sign(); err != nil {
		return nil, err
	}
	return s.Signer.Sign(r, digest, opts)
}

// A key that is elsewhere signs as well, and one that hangs holds nobody up (C72, C73).
func TestKeyElsewhere(t *testing.T) {
	own, err := Parse(generate(t).Private)
	if err != nil {
		t.Fatal(err)
	}
	var s Servers
	down := errors.New("down")
	k, err := NewKey(service{own, func() error { return nil }})
	if err != nil || k.Private != "" {
		t.Fatal(err)
	}
	r := request(t, "GET", "https://api.test")
	if _, err := s.Prove(t.Context(), k, r, ""); err != nil || r.Header.Get("DPoP") == "" {
		t.Errorf("got %v", err)
	}
	failing, _ := NewKey(service{own, func() error { return down }})
	r = request(t, "GET", "https://api.test")
	if _, err := s.Prove(t.Context(), failing, r, ""); !errors.Is(err, down) || r.Header.Get("DPoP") != "" {
		t.Errorf("got %v", err)
	}
	ended := make(chan struct{})
	hanging, _ := NewKey(service{own, func() error { <-ended; return down }})
	ctx, cancel := context.WithCancel(t.Context())
	time.AfterFunc(10*time.Millisecond, cancel)
	if _, err := s.Prove(ctx, hanging, r, ""); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	close(ended)
}

// What a proof costs beside its signature is little.
func BenchmarkProve(b *testing.B) {
	var s Servers
	k := generate(b)
	own, _ := Parse(k.Private)
	sum := sha256.Sum256(nil)
	b.Run("signature", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			own.Sign(rand.Reader, sum[:], crypto.SHA256)
		}
	})
	r := request(b, "GET", "https://api.test/path?query")
	b.Run("proof", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			s.Prove(b.Context(), k, r, "token")
		}
	})
}
