package faultstest

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"runtime"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/oauth2"

	"github.com/stayauth/stayauth/tokencache"
	"github.com/stayauth/stayauth/transport"
)

// usage is what a process holds.
type usage struct {
	goroutines, files int
	heap              uint64
}

// measure returns the least of several measurements: the server may still be busy with
// the request that it has answered last.
func measure() (u usage) {
	for i := range 20 {
		time.Sleep(10 * time.Millisecond)
		// Two collections, so that what has a finalizer and what is pooled is gone too.
		runtime.GC()
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		now := usage{goroutines: runtime.NumGoroutine(), heap: m.HeapAlloc}
		if entries, err := os.ReadDir("/proc/self/fd"); err == nil && runtime.GOOS == "linux" { // Wine has this path too, with files of its own
			now.files = len(entries)
		}
		if i == 0 || now.heap < u.heap {
			u = now
		}
	}
	return u
}

// hasty is an Endpoint whose tokens have expired when they arrive, so that every
// call is a rotation.
type hasty struct{ *transport.Endpoint }

func (h hasty) Refresh(ctx context.Context, r *tokencache.Record) (*tokencache.Record, error) {
	next, err := h.Endpoint.Refresh(ctx, r)
	if err == nil {
		next.Expiry = next.ObtainedAt.Add(-time.Second)
	}
	return next, err
}

// After many rotations, over TCP and into files, a process holds what it held after
// a few.
func TestRotationsLeaveNothingBehind(t *testing.T) {
	rotations := pick(1000, 2000, 100_000)
	// The runtime keeps what it needs for a goroutine, 480 bytes, for the next one. Each
	// processor has such a store, and goroutines end on others than they started on: with
	// more than one, the stores fill up by tens of kilobytes.
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
	var issued atomic.Int64 // oauthtest remembers all that it ever issued
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if want := fmt.Sprintf("refresh-%09d", issued.Load()); r.PostFormValue("refresh_token") != want {
			http.Error(w, `{"error":"invalid_grant"}`, http.StatusBadRequest)
			return
		}
		n := issued.Add(1)
		w.Header().Set("Content-Type", "application/json")
		fmt.Fprintf(w, `{"access_token":"access-%09d","token_type":"Bearer","expires_in":3600,"refresh_token":"refresh-%09d"}`, n, n)
	}))
	defer srv.Close()
	path, err := os.MkdirTemp("/dev/shm", "stayauth-") // in memory: a disk would need hours
	if err != nil {
		path = t.TempDir()
	}
	defer os.RemoveAll(path)
	dir, err := tokencache.OpenDir(filepath.Join(path, "tokens"))
	if err != nil {
		t.Fatal(err)
	}
	cache, err := tokencache.New(dir, tokencache.KeyFile(filepath.Join(path, "key")))
	if err != nil {
		t.Fatal(err)
	}
	s, err := transport.NewSource(transport.SourceConfig{Cache: cache, Key: tokencache.Key{Issuer: srv.URL, ClientID: "client"},
		Logger:    slog.New(slog.DiscardHandler),
		Refresher: hasty{&transport.Endpoint{TokenURL: srv.URL, ClientID: "client", AuthStyle: oauth2.AuthStyleInParams}}})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close(t.Context())
	first := &tokencache.Record{AccessToken: "access", RefreshToken: "refresh-000000000", Expiry: time.Now().Add(-time.Hour)}
	if err := s.Login(t.Context(), first); err != nil {
		t.Fatal(err)
	}
	rotate := func(n int) {
		for range n {
			if _, err := s.Token(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
	}
	rotate(100)
	before, begun := measure(), time.Now()
	rotate(rotations)
	took, after := time.Since(begun), measure()
	t.Logf("%d rotations, %v each: %+v before, %+v after", rotations, (took / time.Duration(rotations)).Round(time.Microsecond), before, after)
	if got := int(issued.Load()); got != rotations+100 {
		t.Errorf("%d rotations", got)
	}
	if after.goroutines > before.goroutines || after.files > before.files {
		t.Errorf("%+v before, %+v after", before, after)
	}
	// What net/http keeps of a request varies.
	if slack := uint64(4 << 10); after.heap > before.heap+slack {
		t.Errorf("%d bytes before, %d after", before.heap, after.heap)
	}
}
