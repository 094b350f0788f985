package transport_test

import (
	"crypto"
	"crypto/rand"
	"testing"

	"github.com/stayauth/stayauth/transport/internal/dpop"
	"github.com/stayauth/stayauth/transport/oauthtest"
)

// A request whose token is bound to a key costs little beside the signature of its proof: at most
// 1.3 times what that alone takes.
func BenchmarkBoundRequest(b *testing.B) {
	bearer := newWorld(b, oauthtest.Config{})
	bearer.base = apiStub{}
	free := bearer.source()
	bearer.login(free, "ann")
	w := newBoundWorld(b, oauthtest.DPoP{})
	w.base = apiStub{}
	s := w.source()
	private, _ := w.login(s, "ann").Proof()
	key, err := dpop.Parse(private)
	if err != nil {
		b.Fatal(err)
	}
	bearerClient, client := bearer.client(free).Transport, w.client(s).Transport
	digest := make([]byte, 32)
	request := newRequest(b, "GET", w.srv.APIURL(), nil)
	for _, bench := range []struct {
		name string
		do   func() error
	}{
		{"signature", func() error {
			_, err := key.Sign(rand.Reader, digest, crypto.SHA256)
			return err
		}},
		{"bearer", func() error {
			_, err := bearerClient.RoundTrip(request)
			return err
		}},
		{"bound", func() error {
			_, err := client.RoundTrip(request)
			return err
		}},
	} {
		b.Run(bench.name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if err := bench.do(); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
