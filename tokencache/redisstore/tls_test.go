package redisstore_test

import (
	"bytes"
	"context"
	"crypto/x509"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/stayauth/stayauth/testdata/realparts"
	"github.com/stayauth/stayauth/testdata/realparts/storecheck"
	"github.com/stayauth/stayauth/tokencache/redisstore"
)

// Over TLS nothing can be read on the way, and a server that does not prove who it is
// gets nothing at all.
func TestTLS(t *testing.T) {
	t.Parallel()
	ca, other := realparts.NewCA(t), realparts.NewCA(t)
	start := func(ip string) *realparts.Proxy {
		cert, key := ca.Issue(ip)
		port := realparts.FreePort(t)
		realparts.StartRedis(t, "requirepass "+password, fmt.Sprintf("tls-port %d", port), "tls-auth-clients no",
			"tls-cert-file "+cert, "tls-key-file "+key, "tls-ca-cert-file "+ca.File)
		return realparts.StartProxy(t, port)
	}
	right, stranger := start("127.0.0.1"), start("127.0.0.2")
	clear := realparts.StartProxy(t, realparts.StartRedis(t, "requirepass "+password).Port)
	for _, test := range []struct {
		what   string
		server *realparts.Proxy
		trusts *x509.CertPool // nil: what the machine trusts
		says   string
	}{
		{"right", right, ca.Pool(), ""},
		{"wrong authority", right, other.Pool(), "unknown authority"},
		{"authority of one's own, and only a URL", right, nil, "unknown authority"},
		{"certificate of another server", stranger, ca.Pool(), "127.0.0.2"},
		{"server without TLS", clear, ca.Pool(), "deadline exceeded"}, // it waits for the end of the line
	} {
		t.Run(test.what, func(t *testing.T) {
			test.server.Record()
			url := fmt.Sprintf("rediss://:%s@127.0.0.1:%d", password, test.server.Port)
			cfg := redisstore.Config{URL: url}
			if test.trusts != nil {
				options, err := redis.ParseURL(url)
				must(t, err)
				options.TLSConfig.RootCAs = test.trusts
				client := redis.NewClient(options)
				defer client.Close()
				cfg = redisstore.Config{Client: client}
			}
			s, err := redisstore.Open(cfg)
			must(t, err)
			defer s.Close()
			if test.server == clear {
				ctx, cancel := context.WithTimeout(t.Context(), time.Second)
				defer cancel()
				_, _, err := s.Load(ctx, "a")
				if err == nil || !strings.Contains(err.Error(), test.says) {
					t.Errorf("Load: %v", err)
				}
			} else if test.says != "" {
				storecheck.Unavailable(t, s, test.says, password)
			} else {
				for op, err := range storecheck.Everything(t.Context(), s) {
					if err != nil && op != "Load" {
						t.Errorf("%s: %v", op, err)
					}
				}
			}
			sent := test.server.Sent()
			if len(sent) == 0 {
				t.Error("nothing was sent: nothing was tried")
			}
			for _, secret := range []string{password, "stayauth:", "AUTH", "HELLO", "hello", "PING"} {
				if bytes.Contains(sent, []byte(secret)) {
					t.Errorf("%s was sent in the clear", secret)
				}
			}
		})
	}
}
