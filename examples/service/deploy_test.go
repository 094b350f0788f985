package main

import (
	"bytes"
	"flag"
	"testing"
	"time"
)

var oldProgram string

func init() {
	flag.StringVar(&oldProgram, "old", "", "this program as an earlier version built it, for TestDeploy to begin with and to return to")
}

// While replicas are replaced one after the other, those of two versions or with two
// orders of keys run at the same time, and each may be undone. The provider is slow, so
// refreshes are under way at every moment, and it forgives nothing.
func TestDeploy(t *testing.T) {
	for name, store := range map[string]func(t *testing.T) (string, server){"PostgreSQL": onPostgreSQL, "Redis": onRedis} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			o := size
			o.users, o.replicas, o.kill, o.latency, o.tokenLife = max(size.users, 20), 2, 0, 2*time.Second, 8*time.Second
			o.nextKey = bytes.Repeat([]byte{1}, 32)
			if oldProgram != "" {
				o.replicas = size.replicas
			}
			o.store, _ = store(t)
			o.during = func(s *swarm) {
				oldKey := s.config
				newKey := oldKey
				newKey.Key, newKey.OtherKeys = o.nextKey, [][]byte{oldKey.Key}
				type step struct {
					program string
					keys    config
				}
				// The key that is to seal is one that opens everywhere already.
				steps := []step{{"", newKey}, {"", oldKey}}
				if oldProgram != "" {
					steps = []step{{oldProgram, oldKey}, {"", oldKey}, {oldProgram, oldKey}, {"", newKey}, {oldProgram, oldKey}, {"", newKey}}
				}
				time.Sleep(2 * time.Second) // until the first refreshes are under way
				for _, step := range steps {
					if err := s.deploy(step.program, step.keys); err != nil {
						t.Error(err)
					}
				}
			}
			proof, err := run(t.Context(), o, t.Output())
			if err != nil {
				t.Fatal(err)
			}
			t.Log(proof)
			if err := proof.check(); err != nil {
				t.Error(err)
			}
			if len(proof.failures) > 0 {
				t.Errorf("%d requests failed", len(proof.failures))
			}
		})
	}
}
