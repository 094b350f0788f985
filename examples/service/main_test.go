package main

import (
	"fmt"
	"io"
	"os"
	"testing"
	"time"

	"github.com/stayauth/stayauth/testdata/realparts"
)

func TestMain(m *testing.M) {
	if conf, ok := os.LookupEnv(replicaVar); ok {
		if err := replicaMain(conf); err != nil {
			fmt.Fprintln(os.Stderr, "replica:", err)
			os.Exit(1)
		}
		return
	}
	os.Exit(m.Run())
}

func TestService(t *testing.T) {
	for name, test := range map[string]struct {
		store func(t *testing.T) string
		kill  time.Duration
	}{
		"directory":                     {store: func(t *testing.T) string { return "" }},
		"PostgreSQL":                    {store: postgres},
		"PostgreSQL, replicas are lost": {store: postgres, kill: 700 * time.Millisecond},
		"Redis":                         {store: func(t *testing.T) string { return realparts.StartRedis(t).URL() }},
	} {
		t.Run(name, func(t *testing.T) {
			o := options{store: test.store(t), replicas: 3, users: 10, rate: 60, duration: 6 * time.Second, tokenLife: 2 * time.Second, kill: test.kill}
			proof, err := run(t.Context(), o, io.Discard)
			if err != nil {
				t.Fatal(err)
			}
			if err := proof.check(); err != nil {
				t.Errorf("%v\n%v", err, proof)
			}
			if proof.saved == 0 {
				t.Errorf("no rotation was needed\n%v", proof)
			}
			if test.kill == 0 && proof.failed > 0 {
				t.Errorf("requests failed\n%v", proof)
			}
			if test.kill > 0 && proof.killed == 0 {
				t.Error("no replica was killed")
			}
		})
	}
}

func postgres(t *testing.T) string {
	return realparts.StartPostgreSQL(t, "max_connections=200").URL("pool_max_conns=4")
}

// The proof must fail when there is something wrong.
func TestProofFails(t *testing.T) {
	for what, spoil := range map[string]func(*proof){
		"reuse":        func(p *proof) { p.Reuses = 1 },
		"login lost":   func(p *proof) { p.ended = 1 },
		"wasted":       func(p *proof) { p.TokenRequests += 2 },
		"nothing done": func(p *proof) { p.saved, p.TokenRequests = 0, 0 },
	} {
		p := &proof{saved: 50, requests: 1000}
		p.TokenRequests = 50
		if err := p.check(); err != nil {
			t.Fatal(err)
		}
		if spoil(p); p.check() == nil {
			t.Errorf("%s: nothing is wrong", what)
		}
	}
}
