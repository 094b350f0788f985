package pgstore_test

import (
	"fmt"
	"os"
	"regexp"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/stayauth/stayauth/testdata/realparts"
	"github.com/stayauth/stayauth/tokencache"
	"github.com/stayauth/stayauth/tokencache/storetest"
)

// What the package documentation says to grant is enough, and nothing of it is too much.
func leastRights(t *testing.T, server *realparts.PostgreSQL) {
	doc, err := os.ReadFile("doc.go")
	if err != nil {
		t.Fatal(err)
	}
	grants := regexp.MustCompile(`(?m)^\tGRANT [^;]*;$`).FindAllString(string(doc), -1)
	if len(grants) != 3 {
		t.Fatalf("doc.go grants %q", grants)
	}
	query(t, server, `CREATE ROLE app LOGIN`)
	var schemas atomic.Int32
	newStore := func(t *testing.T) (arg string) {
		schema := fmt.Sprintf("logins%d", schemas.Add(1))
		query(t, server, `CREATE SCHEMA `+schema)
		arg = server.URL("pool_max_conns=4") + "|" + schema + ".stayauth_entries"
		if err := mustOpen(t, arg).Migrate(t.Context()); err != nil {
			t.Fatal(err)
		}
		query(t, server, strings.ReplaceAll(strings.Join(grants, "\n"), "logins", schema))
		return strings.Replace(arg, "postgres@", "app@", 1)
	}
	storetest.Run(t, func(t *testing.T) tokencache.Store {
		s := mustOpen(t, newStore(t))
		if err := s.Migrate(t.Context()); err != nil { // All is there, so this needs no right.
			t.Error(err)
		}
		return s
	}, storetest.Increments(100))

	arg := newStore(t)
	_, entries, _ := strings.Cut(arg, "|")
	s := mustOpen(t, arg)
	if err := s.Check(t.Context()); err != nil {
		t.Error(err)
	}
	for _, table := range []string{entries, entries + "_locks", entries + "_gone", entries + "_uptime"} {
		for _, right := range []string{"SELECT", "INSERT", "UPDATE", "DELETE"} {
			if right == "DELETE" && strings.HasSuffix(table, "_uptime") {
				continue
			}
			query(t, server, `REVOKE `+right+` ON `+table+` FROM app`)
			missed := 0
			if err := s.Check(t.Context()); err != nil && strings.Contains(err.Error(), "grant") {
				missed++
			}
			for _, err := range everything(t.Context(), s) {
				if err != nil && strings.Contains(err.Error(), "grant it") {
					missed++
				}
			}
			if missed == 0 {
				t.Errorf("nothing needs %s on %s", right, table)
			}
			query(t, server, `GRANT `+right+` ON `+table+` TO app`)
		}
	}
}
