// Package testkit is what the tests of transport and of its endpoint have in common.
package testkit

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"fmt"
	"io/fs"
	"maps"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// RoundTripFunc plays the provider.
type RoundTripFunc func(*http.Request) (*http.Response, error)

func (f RoundTripFunc) RoundTrip(req *http.Request) (*http.Response, error) { return f(req) }

// Replay answers with an HTTP response in wire form.
func Replay(wire []byte) http.RoundTripper {
	return RoundTripFunc(func(req *http.Request) (*http.Response, error) {
		return http.ReadResponse(bufio.NewReader(bytes.NewReader(wire)), req)
	})
}

// Respond answers with JSON.
func Respond(status int, body string) http.RoundTripper {
	return Replay(fmt.Appendf(nil, "HTTP/1.1 %d Status\nContent-Type: application/json\n\n%s", status, body))
}

// Twice sends each request with a body twice, as a careless proxy does, and returns the second
// answer.
func Twice(base http.RoundTripper) http.RoundTripper {
	return RoundTripFunc(func(req *http.Request) (*http.Response, error) {
		if req.GetBody != nil {
			body, err := req.GetBody()
			if err != nil {
				return nil, err
			}
			first := req.Clone(req.Context())
			first.Body = body
			resp, err := base.RoundTrip(first)
			if err != nil {
				return nil, err
			}
			resp.Body.Close()
		}
		return base.RoundTrip(req)
	})
}

// Gzip compresses a body as a proxy does.
func Gzip(body string) string {
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	w.Write([]byte(body))
	w.Close()
	return b.String()
}

// Meanings runs one test for each *.http file in dir or right below it, and
// compares what it returns with the line of that name in meaning.txt.
func Meanings(t *testing.T, dir string, meaning func(t *testing.T, wire []byte) string) {
	text, err := os.ReadFile(filepath.Join(dir, "meaning.txt"))
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]string{}
	for line := range strings.Lines(string(text)) {
		if name, meaning, ok := strings.Cut(strings.TrimSpace(line), ": "); ok && !strings.HasPrefix(name, "#") {
			want[name] = meaning
		}
	}
	answers := os.DirFS(dir)
	var files []string
	for _, pattern := range []string{"*.http", "*/*.http"} {
		found, err := fs.Glob(answers, pattern)
		if err != nil {
			t.Fatal(err)
		}
		files = append(files, found...)
	}
	if len(files) == 0 {
		t.Fatalf("no answers in %s", dir)
	}
	for _, file := range files {
		name := strings.TrimSuffix(file, ".http")
		t.Run(name, func(t *testing.T) {
			wire, err := fs.ReadFile(answers, file)
			if err != nil {
				t.Fatal(err)
			}
			if got := meaning(t, wire); got != want[name] {
				t.Errorf("\ngot  %s: %s\nwant %s: %s", name, got, name, want[name])
			}
		})
		delete(want, name)
	}
	if len(want) > 0 {
		t.Errorf("meaning.txt has lines without an answer: %v", slices.Collect(maps.Keys(want)))
	}
}

// SeedEnv sets the seed of a test, to see a run again.
const SeedEnv = "STAYAUTH_FAULTS_SEED"

// Seed returns the seed of what a test does by chance, and logs it.
func Seed(t testing.TB) uint64 {
	t.Helper()
	n := rand.Uint64()
	if s := os.Getenv(SeedEnv); s != "" {
		var err error
		if n, err = strconv.ParseUint(s, 10, 64); err != nil {
			t.Fatalf("%s: %v", SeedEnv, err)
		}
	}
	t.Logf("%s=%d", SeedEnv, n)
	return n
}
