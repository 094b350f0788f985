package faultstest

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stayauth/stayauth/testdata/realparts"
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

// A mill is a Source that rotates with every call, at a provider over TCP and with a
// cache in files.
type mill struct {
	t      *testing.T
	source *transport.Source
	issued atomic.Int64
	widths chan time.Duration // from the provider's answer until its refresh token was saved; what has no place is dropped
}

func newMill(t *testing.T, p plan, widths int) *mill {
	m := &mill{t: t, widths: make(chan time.Duration, widths)}
	// oauthtest remembers all that it ever issued, and this does not.
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if want := fmt.Sprintf("refresh-%09d", m.issued.Load()); r.PostFormValue("refresh_token") != want {
			http.Error(w, `{"error":"invalid_grant"}`, http.StatusBadRequest)
			return
		}
		n := m.issued.Add(1)
		w.Header().Set("Content-Type", "application/json")
		fmt.Fprintf(w, `{"access_token":"access-%09d","token_type":"Bearer","expires_in":3600,"refresh_token":"refresh-%09d"}`, n, n)
	}))
	t.Cleanup(srv.Close)
	p.TokenURL, p.Client.ID, p.Hasty = srv.URL, "client", true
	var err error
	m.source, _, err = p.source(func(r report) {
		if r.Width != 0 {
			select {
			case m.widths <- r.Width:
			default:
			}
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { m.source.Close(context.Background()) })
	first := &tokencache.Record{AccessToken: "access", RefreshToken: "refresh-000000000", Expiry: time.Now().Add(-time.Hour)}
	if err := m.source.Login(t.Context(), first); err != nil {
		t.Fatal(err)
	}
	return m
}

func (m *mill) rotate(n int) {
	before := m.issued.Load()
	for range n {
		if _, err := m.source.Token(m.t.Context()); err != nil {
			m.t.Fatal(err)
		}
	}
	if got := m.issued.Load() - before; got != int64(n) {
		m.t.Fatalf("%d rotations instead of %d", got, n)
	}
}

// For how long a crash may lose the login: from the provider's answer until its refresh
// token is stored durably, in files that are sealed with a key in a file, or in a real
// OS keyring.
func TestTheCrashWindow(t *testing.T) {
	t.Run("key file", func(t *testing.T) { crashWindow(t, nil) })
	t.Run("OS keyring", func(t *testing.T) {
		keyring := realparts.Keyring(t)
		for _, v := range keyring.Env { // The Source is in this process.
			name, value, _ := strings.Cut(v, "=")
			t.Setenv(name, value)
		}
		crashWindow(t, keyring.Env)
	})
}

func crashWindow(t *testing.T, keyring []string) {
	const warm = 20
	n := pick(100, 100, 2000)
	m := newMill(t, plan{Dir: t.TempDir(), Keyring: keyring}, warm+n)
	m.rotate(warm + n)
	var widths []time.Duration
	for i := range warm + n {
		if width := <-m.widths; i >= warm {
			widths = append(widths, width)
		}
	}
	median, longest := spread(widths)
	t.Logf("%d rotations, from the answer to the end of the save: median %v, 99 of 100 within %v, longest %v",
		n, median, widths[n*99/100], longest)
}

// After many rotations, over TCP and into files, a process holds what it held after
// a few.
func TestRotationsLeaveNothingBehind(t *testing.T) {
	rotations := pick(1000, 2000, 100_000)
	// The runtime keeps two things for ever. One is what it needs for a goroutine, 480
	// bytes, for the next one. Each processor has such a store, and goroutines end on others
	// than they started on: with more than one, the stores fill up by tens of kilobytes. The
	// other is a cache for each place that converts one interface to another, 48 bytes and
	// more, which is made in one of about a thousand passes. After ten thousand all are made.
	warm := pick(100, 100, 10_000)
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
	path := t.TempDir()
	if runtime.GOOS == "linux" {
		if shm, err := os.MkdirTemp("/dev/shm", "stayauth-"); err == nil { // in memory: a disk would need hours
			defer os.RemoveAll(shm)
			path = shm
		}
	}
	m := newMill(t, plan{Dir: path}, 0)
	m.rotate(warm)
	before, begun := measure(), time.Now()
	m.rotate(rotations)
	took, after := time.Since(begun), measure()
	t.Logf("%d rotations, %v each: %+v before, %+v after", rotations, (took / time.Duration(rotations)).Round(time.Microsecond), before, after)
	if after.goroutines > before.goroutines || after.files > before.files {
		t.Errorf("%+v before, %+v after", before, after)
	}
	if slack := pick[uint64](4<<10, 4<<10, 1<<10); after.heap > before.heap+slack {
		t.Errorf("%d bytes before, %d after", before.heap, after.heap)
	}
}
