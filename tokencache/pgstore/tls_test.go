package pgstore_test

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/stayauth/stayauth/testdata/realparts"
	"github.com/stayauth/stayauth/testdata/realparts/storecheck"
)

// With sslmode=verify-full nothing can be read on the way, and a server that does not
// prove who it is gets nothing at all.
func TestTLS(t *testing.T) {
	t.Parallel()
	ca, other := realparts.NewCA(t), realparts.NewCA(t)
	start := func(ip string) *realparts.Proxy {
		server := realparts.StartPostgreSQL(t)
		query(t, server, `CREATE ROLE app LOGIN PASSWORD '`+password+`'; CREATE SCHEMA logins AUTHORIZATION app`)
		if ip != "" {
			cert, key := ca.Issue(ip)
			server.GiveFile("server.crt", cert)
			server.GiveFile("server.key", key)
			query(t, server, `ALTER SYSTEM SET ssl = on`)
		}
		hba := filepath.Join(server.Dir, "data", "pg_hba.conf")
		if err := os.WriteFile(hba, []byte("host all postgres 127.0.0.1/32 trust\nhost all all 127.0.0.1/32 scram-sha-256\n"), 0o644); err != nil {
			t.Fatal(err)
		}
		server.Stop()
		server.Start()
		return realparts.StartProxy(t, server.Port)
	}
	right, stranger, clear := start("127.0.0.1"), start("127.0.0.2"), start("")
	for _, test := range []struct {
		what   string
		server *realparts.Proxy
		trusts string // a file; empty: what the machine trusts
		says   string
	}{
		{"right", right, ca.File, ""},
		{"wrong authority", right, other.File, "certificate signed by unknown authority"},
		{"authority of one's own that is not named", right, "", "certificate signed by unknown authority"},
		{"certificate of another server", stranger, ca.File, "127.0.0.2"},
		{"server without TLS", clear, ca.File, "refused TLS"},
	} {
		t.Run(test.what, func(t *testing.T) {
			test.server.Record()
			dsn := fmt.Sprintf("postgres://app:%s@127.0.0.1:%d/postgres?sslmode=verify-full&sslrootcert=%s", password, test.server.Port, test.trusts)
			s := mustOpen(t, dsn+"|logins.entries")
			if test.says != "" {
				storecheck.Unavailable(t, s, test.says, password)
			} else {
				if err := s.Migrate(t.Context()); err != nil {
					t.Fatal(err)
				}
				for op, err := range everything(t.Context(), s) {
					if err != nil && op != "Load" {
						t.Errorf("%s: %v", op, err)
					}
				}
			}
			sent := test.server.Sent()
			if len(sent) == 0 {
				t.Error("nothing was sent: nothing was tried")
			}
			for _, secret := range []string{password, "user\x00app", "SCRAM", "SELECT", "entries"} {
				if bytes.Contains(sent, []byte(secret)) {
					t.Errorf("%q was sent in the clear", secret)
				}
			}
		})
	}
}
