package faultstest

import (
	"slices"
	"testing"
	"time"

	"github.com/stayauth/stayauth/testdata/realparts/disk"
	"github.com/stayauth/stayauth/transport/oauthtest"
)

// A disk that takes its time delays rotations, and no call that has a good token: of those, a third
// are made while a rotation is being stored, by one process, and awaited by the others.
func TestSlowDisk(t *testing.T) {
	t.Parallel()
	disk.Require(t)
	sync, ttl := pick(300*time.Millisecond, 300*time.Millisecond, 20*time.Millisecond), pick(6*time.Second, 6*time.Second, 3*time.Second)
	w, err := newWorld(setup{dir: t.TempDir(), policy: oauthtest.StrictFamily, processes: pick(4, 4, 50), ttl: ttl,
		latency: 200 * time.Millisecond, sync: sync, seed: [2]uint64{seed(t), 1}})
	if err != nil {
		t.Fatal(err)
	}
	if err := w.until("all processes work", func() bool { return w.working(time.Time{}) }); err != nil {
		t.Fatal(err)
	}
	w.mu.Lock()
	w.result.Took = nil // While all of them start, they are in each other's way.
	w.mu.Unlock()
	time.Sleep(3 * ttl)
	r := w.settle()
	slices.Sort(r.Took)
	quantile := func(q float64) time.Duration { return r.Took[int(q*float64(len(r.Took)-1))] }
	if len(r.Took) < 50 {
		t.Fatalf("only %d calls with a good token", len(r.Took))
	}
	t.Logf("%d processes, %v for each sync: %d rotations, %d calls with a good token: half took %v, 99 %% %v, the longest %v",
		len(w.processes), sync, r.Counts.Rotations, len(r.Took), quantile(0.5), quantile(0.99), quantile(1))
	if bound := pick(sync, sync, 4*sync); quantile(0.9) > bound { // Four syncs are the least that a rotation needs.
		t.Errorf("of ten calls with a good token, one took %v", quantile(0.9))
	}
	if r.FailedValid > 0 || r.Lost > 0 || r.Counts.Reuses > 0 || r.Counts.Rotations < 2 {
		t.Errorf("%d failed, %d logins lost, %d reuses, %d rotations", r.FailedValid, r.Lost, r.Counts.Reuses, r.Counts.Rotations)
	}
	for _, s := range r.Complaints {
		t.Error(s)
	}
}
