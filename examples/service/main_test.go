package main

import (
	"flag"
	"fmt"
	"os"
	"testing"
	"time"

	"github.com/stayauth/stayauth/testdata/realparts"
)

// The flags of the program make TestService as large as one likes: see README.md.
var size options

func TestMain(m *testing.M) {
	if conf, ok := os.LookupEnv(replicaVar); ok {
		if err := replicaMain(conf); err != nil {
			fmt.Fprintln(os.Stderr, "replica:", err)
			os.Exit(1)
		}
		return
	}
	size.register(flag.CommandLine)
	for name, small := range map[string]string{"replicas": "3", "users": "10", "rate": "60", "for": "8s", "token-life": "3s", "kill": "700ms"} {
		flag.Set(name, small)
	}
	flag.Parse()
	os.Exit(m.Run())
}

type server interface {
	Stop()
	Start()
}

func TestService(t *testing.T) {
	for _, test := range []struct {
		name     string
		store    func(t *testing.T) (url string, s server)
		troubles bool
	}{
		{"directory", func(t *testing.T) (string, server) { return "", nil }, false},
		{"PostgreSQL", onPostgreSQL, false},
		{"PostgreSQL with troubles", onPostgreSQL, true},
		{"Redis", onRedis, false},
		{"Redis with troubles", onRedis, true},
	} {
		t.Run(test.name, func(t *testing.T) {
			o := size
			var server server
			o.store, server = test.store(t)
			if test.troubles {
				o.during = func(*swarm) {
					time.Sleep(o.duration / 2)
					server.Stop()
					server.Start()
					time.Sleep(o.duration / 2)
				}
			} else {
				o.kill = 0
			}
			proof, err := run(t.Context(), o, t.Output())
			if err != nil {
				t.Fatal(err)
			}
			t.Log(proof)
			if err := proof.check(); err != nil {
				t.Error(err)
			}
			if !test.troubles && len(proof.failures) > 0 {
				t.Error("requests failed")
			}
			if test.troubles && proof.killed == 0 {
				t.Error("no replica was killed")
			}
		})
	}
}

func onPostgreSQL(t *testing.T) (string, server) {
	s := realparts.StartPostgreSQL(t, "max_connections=500")
	return s.URL("pool_max_conns=4"), s
}

func onRedis(t *testing.T) (string, server) {
	s := realparts.StartRedis(t)
	return s.URL() + patiently, s
}

// patiently lets a client of Redis wait for a machine that has much else to do, as those of
// PostgreSQL do.
const patiently = "?read_timeout=30s&write_timeout=30s"

// The proof must fail when there is something wrong.
func TestProofFails(t *testing.T) {
	for what, spoil := range map[string]func(*proof){
		"reuse":               func(p *proof) { p.Reuses = 1 },
		"login lost":          func(p *proof) { p.ended = 1 },
		"asked again":         func(p *proof) { p.TokenRequests += 2; p.again += 2 },
		"asked early":         func(p *proof) { p.TokenRequests += 2; p.early += 2; p.saved += 2 },
		"rotation not stored": func(p *proof) { p.saved-- },
		"spent one stored":    func(p *proof) { p.killed = 0 },
		"nothing done":        func(p *proof) { *p = proof{} },
	} {
		p := &proof{saved: 100, requests: 1000, open: 1, killed: 3}
		p.TokenRequests, p.due, p.lost = 104, 101, 3
		if err := p.check(); err != nil {
			t.Fatal(err)
		}
		if spoil(p); p.check() == nil {
			t.Errorf("%s: nothing is wrong", what)
		}
	}
}
