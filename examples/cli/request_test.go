package main

import (
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// What is asked for is sent, as curl sends it, or else refused: nothing is dropped or changed
// without a word.
func TestRequest(t *testing.T) {
	for _, tt := range []struct {
		name    string
		opts    options
		target  string
		method  string // "": it is refused
		headers http.Header
	}{
		{"nothing said", options{}, "https://a.example/x", "GET", http.Header{"Accept": {"*/*"}, "User-Agent": {appName}}},
		{"data", options{data: list{"text"}}, "https://a.example/x", "POST", http.Header{"Accept": {"*/*"}, "User-Agent": {appName}, "Content-Type": {"application/json"}}},
		{"empty data", options{data: list{""}}, "https://a.example/x", "POST", http.Header{"Accept": {"*/*"}, "User-Agent": {appName}, "Content-Type": {"application/json"}}},
		{"a method", options{data: list{""}, method: "PUT", headers: list{"content-type: text/plain"}}, "https://a.example/x", "PUT", http.Header{"Accept": {"*/*"}, "User-Agent": {appName}, "Content-Type": {"text/plain"}}},
		{"a header twice", options{headers: list{"X-A: 1", "x-a:2"}}, "https://a.example/x", "GET", http.Header{"Accept": {"*/*"}, "User-Agent": {appName}, "X-A": {"1", "2"}}},
		{"another name", options{headers: list{"User-Agent: me"}}, "https://a.example/x", "GET", http.Header{"Accept": {"*/*"}, "User-Agent": {"me"}}},
		{"no name", options{headers: list{"User-Agent:", "Accept:"}}, "https://a.example/x", "GET", http.Header{"User-Agent": {""}, "Accept": nil}},
		{"Host", options{headers: list{"Host: b.example"}}, "https://a.example/x", "", nil},
		{"Content-Length", options{headers: list{"content-length: 5"}}, "https://a.example/x", "", nil},
		{"no header", options{headers: list{"A B: c"}}, "https://a.example/x", "", nil},
		{"lines in a header", options{headers: list{"A: b\r\nC: d"}}, "https://a.example/x", "", nil},
		{"a method that is none", options{method: "A B"}, "https://a.example/x", "", nil},
		{"headers only", options{head: true}, "https://a.example/x", "HEAD", http.Header{"Accept": {"*/*"}, "User-Agent": {appName}}},
		{"headers only, with data", options{head: true, data: list{""}}, "https://a.example/x", "", nil},
		{"two bodies", options{data: list{"a", "b"}}, "https://a.example/x", "", nil},
		{"no such file", options{data: list{"@none"}}, "https://a.example/x", "", nil},
		{"a password", options{}, "https://ann:secret@a.example/x", "", nil},
		{"a space", options{}, "https://a.example/x?a b", "", nil},
		{"a line", options{}, "https://a.example/x\n", "", nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c := &cli{options: tt.opts}
			req, err := c.request(t.Context(), tt.target)
			if tt.method == "" {
				if _, ok := errors.AsType[usageError](err); !ok || strings.Contains(err.Error(), "secret") {
					t.Errorf("got %v", err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if req.Method != tt.method || len(req.Header) != len(tt.headers) {
				t.Errorf("%s, %v", req.Method, req.Header)
			}
			for name, want := range tt.headers {
				if got := req.Header[name]; strings.Join(got, "|") != strings.Join(want, "|") {
					t.Errorf("%s: %q, want %q", name, got, want)
				}
			}
			if body, err := io.ReadAll(req.Body); err != nil || len(tt.opts.data) > 0 && string(body) != tt.opts.data[0] {
				t.Errorf("%q, %v", body, err)
			}
		})
	}
}

// An API that ends the connection is one that cannot be reached, as one that refuses it is.
func TestConnectionThatIsClosed(t *testing.T) {
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { panic(http.ErrAbortHandler) }))
	defer srv.Close()
	cmd := exec.Command("stayauth", "get", "-X", "POST", "-origin", srv.URL, srv.URL)
	cmd.Env = append(cmd.Environ(), "STAYAUTH_DIR="+t.TempDir(), "STAYAUTH_TOKEN=some-token")
	out, err := cmd.CombinedOutput()
	if cmd.ProcessState.ExitCode() != exitUnavailable || !strings.Contains(string(out), "closed the connection") {
		t.Errorf("%v: %s", err, out)
	}
}

// An API that refuses a request demands a login. One that has done it does not: a POST would be
// sent twice.
func TestDemandOfAnAnswer(t *testing.T) {
	req := httptest.NewRequest(http.MethodPost, "https://a.example/x", nil)
	for status, want := range map[int]bool{200: false, 201: false, 303: false, 401: true, 403: true} {
		resp := &http.Response{StatusCode: status, Request: req, Header: http.Header{"Www-Authenticate": {`Bearer error="insufficient_scope", scope="files"`}}}
		if got := demand(req, resp, nil); (got != nil) != want {
			t.Errorf("HTTP %d: %v", status, got)
		}
	}
}

// After a refresh a request is repeated, with the same data.
func TestDataIsSentTwice(t *testing.T) {
	dir := t.TempDir()
	file, empty := filepath.Join(dir, "file"), filepath.Join(dir, "empty")
	const content = "a\x00b\r\n\xff"
	if err := errors.Join(os.WriteFile(file, []byte(content), 0o600), os.WriteFile(empty, nil, 0o600)); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct{ name, data, want string }{
		{"text", "text", "text"},
		{"no text", "", ""},
		{"a file", "@" + file, content},
		{"an empty file", "@" + empty, ""},
		{"standard input", "@-", content},
	} {
		t.Run(tt.name, func(t *testing.T) {
			stdin, err := os.Open(file)
			if err != nil {
				t.Fatal(err)
			}
			defer stdin.Close()
			c := &cli{stdin: stdin, options: options{data: list{tt.data}}}
			req, err := c.request(t.Context(), "https://a.example/x")
			if err != nil {
				t.Fatal(err)
			}
			if req.ContentLength != int64(len(tt.want)) {
				t.Errorf("%d bytes, want %d", req.ContentLength, len(tt.want))
			}
			if tt.want == "" { // There is nothing to be read again.
				if req.Body != http.NoBody {
					t.Error("there is a body")
				}
				return
			}
			for range 2 {
				got, err := io.ReadAll(req.Body)
				if err != nil || string(got) != tt.want {
					t.Errorf("%q, %v, want %q", got, err, tt.want)
				}
				req.Body.Close()
				if req.Body, err = req.GetBody(); err != nil {
					t.Fatal(err)
				}
			}
			req.Body.Close()
		})
	}
}
