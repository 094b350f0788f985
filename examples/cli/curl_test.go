//go:build unix

package main

import (
	"bytes"
	"cmp"
	"compress/gzip"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/stayauth/stayauth/testdata/realparts"
)

// A use is a command line as people know it from curl, and what they type here instead, if that
// is something else. API stands for the address of an API.
type use struct {
	name  string
	curl  string // separated by |, because headers have spaces
	ours  string // "": the same
	stdin string
}

// A difference is a use with another effect than that of curl. The help says so.
type difference struct {
	use
	status int // of ours
	sends  bool
	help   string
}

var sameAsCurl = []use{
	{name: "an address", curl: "API/text"},
	{name: "a query", curl: "API/text?a=b%20c&d=%2F&e"},
	{name: "flags after the address", curl: "API/text|-H|X-A: 1"},
	{name: "a method", curl: "-X|DELETE|API/text"},
	{name: "a method of one's own", curl: "-X|PURGE|API/text"},
	{name: "a method without data", curl: "-X|POST|API/text"},
	{name: "data", curl: `-H|Content-Type: application/json|-d|{"a":"b c"}|API/text`, ours: `-d|{"a":"b c"}|API/text`},
	{name: "a form", curl: "-d|a=b&c=d|-H|Content-Type: application/x-www-form-urlencoded|API/text"},
	{name: "no data", curl: "-H|Content-Type: text/plain|-d||API/text"},
	{name: "data with a method", curl: "-X|PATCH|-H|Content-Type: text/plain|-d|x|API/text"},
	{name: "a binary file", curl: "-H|Content-Type: a/b|--data-binary|@binary|API/text"},
	{name: "an empty file", curl: "-H|Content-Type: a/b|--data-binary|@empty|API/text"},
	{name: "a large file", curl: "-X|PUT|-H|Content-Type: a/b|--data-binary|@large|API/text"},
	{name: "standard input", curl: "-H|Content-Type: a/b|--data-binary|@-|API/text", stdin: "a\x00b\r\n\xff"},
	{name: "data that begins with a dash", curl: "-H|Content-Type: a/b|-d|-1|API/text"},
	{name: "a header twice", curl: "-H|X-A: 1|-H|X-A: 2|API/text"},
	{name: "another name of the program", curl: "-H|User-Agent: me|API/text"},
	{name: "no such header", curl: "-H|Accept:|-H|User-Agent:|API/text"},
	{name: "another header than usual", curl: "-H|Accept: application/xml|API/text"},
	{name: "a binary answer", curl: "API/binary"},
	{name: "an answer that is compressed", curl: "-H|Accept-Encoding: gzip|API/gzip"},
	{name: "an answer that could be compressed", curl: "API/gzip"},
	{name: "no answer", curl: "API/empty"},
	{name: "into a file", curl: "-o|out|API/binary"},
	{name: "into a file that is there", curl: "-o|old|API/text"},
	{name: "into standard output", curl: "-o|-|API/binary"},
	{name: "with headers", curl: "-i|API/text"},
	{name: "with headers, into a file", curl: "-i|-o|out|API/text"},
	{name: "headers only", curl: "-I|API/text"},
	{name: "no progress", curl: "-s|API/text"},
	{name: "no progress, but errors", curl: "-s|-S|API/text"},
	{name: "no errors of the API", curl: "-f|API/text"},
	{name: "a redirect", curl: "-L|API/302"},
	{name: "a redirect of data", curl: "-L|-H|Content-Type: a/b|-d|x|API/302"},
	{name: "a redirect that keeps the method", curl: "-L|-H|Content-Type: a/b|-d|x|API/307"},
	{name: "a redirect to somebody else", curl: "-L|API/away"},
	{name: "the token from a pipe", curl: "API/text|-H|@-", ours: "API/text", stdin: "X-A: 1\n"},
}

var unlikeCurl = []difference{
	{use{name: "a redirect", curl: "API/302"}, exitOK, true, "-L       is always on"},
	{use{name: "an error of the API", curl: "API/404"}, exitFailure, true, "the API answered 400 or more"},
	{use{name: "an error of the API, left out", curl: "-f|API/404"}, exitFailure, true, "22 of curl is 1"},
	{use{name: "data is no form", curl: "-d|a=b|API/text"}, exitOK, true, "as application/json"},
	{use{name: "a file with lines", curl: "-H|Content-Type: a/b|-d|@lines|API/text"}, exitOK, true, "with its line ends"},
	{use{name: "data twice", curl: "-d|a=b|-d|c=d|API/text"}, exitUsage, false, "several are not joined"},
	{use{name: "a file that is missing", curl: "-d|@none|API/text"}, exitUsage, false, "3 are 2"},
	{use{name: "several flags in one", curl: "-fsS|API/text"}, exitUsage, false, "not -fsXPOST"},
	{use{name: "a value without a space", curl: "-XPOST|API/text"}, exitUsage, false, "Each stands alone"},
	{use{name: "a user", curl: "-u|ann:pw|API/text"}, exitUsage, false, "-u       there is none"},
	{use{name: "a user in the address", curl: "USER/text"}, exitUsage, false, "a user name in a URL"},
	{use{name: "a variable of the answer", curl: "-w|%{http_code}|API/text"}, exitUsage, false, "-w       there is none"},
	{use{name: "data as a query", curl: "-G|-d|a=b|API/text"}, exitUsage, false, "-G, -T   there are none"},
	{use{name: "an upload", curl: "-T|binary|API/text"}, exitUsage, false, "-X PUT -d @FILE"},
	{use{name: "a flag of curl only", curl: "--compressed|API/gzip"}, exitUsage, false, "and no others"},
	{use{name: "two addresses", curl: "API/text|API/binary"}, exitUsage, false, "one, complete"},
	{use{name: "an address without https", curl: "HOST/text"}, exitUsage, false, "complete with https://"},
	{use{name: "several addresses in one", curl: "API/{text,empty}"}, exitFailure, true, "are no lists"},
	{use{name: "an address with a space", curl: "API/a b"}, exitUsage, false, "3 are 2"},
	{use{name: "another host", curl: "-H|Host: example.com|API/text"}, exitUsage, false, "Host, Content-Length and Authorization"},
	{use{name: "headers from a file", curl: "-H|@headers|API/text"}, exitUsage, false, "not a file of them"},
	{use{name: "headers of redirects", curl: "-L|-i|API/302"}, exitOK, true, "not those of redirects"},
	{use{name: "an answer that is cut off", curl: "API/cut"}, exitFailure, true, "18, 23 and 60 are 1"},
	{use{name: "nobody listens", curl: "http://127.0.0.1:1/"}, exitUnavailable, false, "6 and 7 are\n4"},
	{use{name: "into a file that cannot be", curl: "-o|none/none|API/text"}, exitFailure, true, "18, 23 and 60 are 1"},
}

// Who knows curl finds what he expects, or finds in the help that it is otherwise: the same
// requests and the same output, byte for byte, beside the real curl.
func TestLikeCurlReal(t *testing.T) {
	curl, err := exec.LookPath("curl")
	realparts.Require(t, "curl", err)
	for _, u := range sameAsCurl {
		t.Run(u.name, func(t *testing.T) {
			b := newBench(t)
			theirs := b.run(t, append([]string{curl, "-q", "-sS", "-H", "Authorization: Bearer the-token"}, b.arguments(u.curl)...), u.stdin)
			ours := b.run(t, append([]string{"stayauth", "get"}, b.arguments(cmp.Or(u.ours, u.curl))...), u.stdin)
			if strings.Contains(u.curl, "-H|@-") { // What was in the pipe.
				delete(theirs.requests[0].Header, "X-A")
			}
			if len(theirs.requests) == 0 || theirs.status != 0 || !reflect.DeepEqual(theirs, ours) {
				t.Errorf("\n%+v\ncurl\n%+v", ours, theirs)
			}
		})
	}
	help := curlHelp + front()
	for _, d := range unlikeCurl {
		t.Run("unlike curl: "+d.name, func(t *testing.T) {
			b := newBench(t)
			theirs := b.run(t, append([]string{curl, "-q", "-sS", "-H", "Authorization: Bearer the-token"}, b.arguments(d.curl)...), d.stdin)
			ours := b.run(t, append([]string{"stayauth", "get"}, b.arguments(cmp.Or(d.ours, d.curl))...), d.stdin)
			if reflect.DeepEqual(theirs, ours) {
				t.Errorf("there is no difference: %+v", ours)
			}
			if ours.status != d.status || d.sends != (len(ours.requests) > 0) {
				t.Errorf("got\n%+v", ours)
			}
			if !strings.Contains(help, d.help) {
				t.Errorf("the help does not say %q", d.help)
			}
		})
	}
	t.Logf("%d uses as with curl, %d that the help tells of", len(sameAsCurl), len(unlikeCurl))
}

// Whatever else curl can do, it does with the token of a login.
func TestTokenForCurlReal(t *testing.T) {
	curl, err := exec.LookPath("curl")
	realparts.Require(t, "curl", err)
	needsShell(t)
	tm := newTerminal(t)
	cmd := exec.Command("sh", "-c", `stayauth token -header | "$1" -q -sS -f -H @- --compressed "$2"`, "sh", curl, tm.srv.APIURL())
	cmd.Env = tm.environment()
	if out, err := cmd.CombinedOutput(); err != nil || !strings.Contains(string(out), `"account":"user"`) {
		t.Errorf("%v: %s", err, out)
	}
}

// A bench has an API, and a directory with some files.
type bench struct {
	api, elsewhere *httptest.Server

	mu       sync.Mutex
	requests []request
}

// A request is what an API has got of it.
type request struct {
	Host, Method, URI, Body string
	Length                  int64
	Header                  http.Header
}

// An effect is what a program has done.
type effect struct {
	requests []request
	stdout   string
	files    map[string]string
	status   int
}

func newBench(t *testing.T) *bench {
	b := &bench{}
	b.api, b.elsewhere = httptest.NewServer(b), httptest.NewServer(b)
	t.Cleanup(b.api.Close)
	t.Cleanup(b.elsewhere.Close)
	return b
}

func (b *bench) arguments(line string) []string {
	host := strings.TrimPrefix(b.api.URL, "http://")
	return strings.Split(strings.NewReplacer("API", b.api.URL, "USER", "http://ann:pw@"+host, "HOST", host).Replace(line), "|")
}

var allBytes = bytes.Repeat([]byte("\x00\x01\n\r\xff\xfe"), 20000)

func (b *bench) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	hash := sha256.New()
	io.Copy(hash, r.Body)
	got := request{Method: r.Method, URI: r.RequestURI, Length: max(r.ContentLength, 0), Header: r.Header.Clone(), Body: fmt.Sprintf("%x", hash.Sum(nil))}
	got.Host = map[bool]string{true: "the API", false: "elsewhere"}["http://"+r.Host == b.api.URL]
	got.Header.Del("Content-Length")
	got.Header.Del("Expect") // curl asks first whether a large body is welcome
	if name := got.Header.Get("User-Agent"); strings.HasPrefix(name, "curl/") || name == appName {
		got.Header.Del("User-Agent")
	}
	if got.Method == http.MethodGet && got.Length == 0 { // curl sends it on with a redirect.
		got.Header.Del("Content-Type")
	}
	b.mu.Lock()
	b.requests = append(b.requests, got)
	b.mu.Unlock()
	w.Header()["Date"] = nil
	w.Header().Set("Content-Type", "text/plain")
	switch r.URL.Path {
	case "/text":
		w.Header()["X-Two"] = []string{"1", "2"}
		io.WriteString(w, "a line\nanother one")
	case "/binary":
		w.Write(allBytes)
	case "/gzip":
		if !strings.Contains(r.Header.Get("Accept-Encoding"), "gzip") {
			w.Write(allBytes)
			return
		}
		w.Header().Set("Content-Encoding", "gzip")
		z := gzip.NewWriter(w)
		z.Write(allBytes)
		z.Close()
	case "/empty":
		w.WriteHeader(http.StatusNoContent)
	case "/302":
		http.Redirect(w, r, "/text", http.StatusFound)
	case "/307":
		http.Redirect(w, r, "/text", http.StatusTemporaryRedirect)
	case "/away":
		http.Redirect(w, r, b.elsewhere.URL+"/text", http.StatusFound)
	case "/cut":
		w.Header().Set("Content-Length", "100")
		io.WriteString(w, "not all")
	default:
		http.NotFound(w, r)
	}
}

// run runs a program in a fresh directory.
func (b *bench) run(t *testing.T, args []string, stdin string) effect {
	t.Helper()
	b.requests = nil
	dir := t.TempDir()
	files := map[string]string{"binary": string(allBytes), "empty": "", "lines": "a\nb\r\nc\n", "old": strings.Repeat("old", 1000),
		"large": strings.Repeat("0123456789abcdef", 1<<18), "headers": "X-A: 1\n"}
	for name, text := range files {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	cmd := exec.Command(args[0], args[1:]...)
	cmd.Dir, cmd.Stdin = dir, strings.NewReader(stdin)
	cmd.Env = append(os.Environ(), "STAYAUTH_DIR="+t.TempDir(), "STAYAUTH_TOKEN=the-token", "STAYAUTH_ORIGIN="+b.api.URL+" http://127.0.0.1:1")
	out, err := cmd.Output()
	if _, ended := errors.AsType[*exec.ExitError](err); err != nil && !ended {
		t.Fatal(err)
	}
	did := effect{requests: b.requests, stdout: canonical(string(out)), files: map[string]string{}, status: cmd.ProcessState.ExitCode()}
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, entry := range entries {
		text, err := os.ReadFile(filepath.Join(dir, entry.Name()))
		if err != nil {
			t.Fatal(err)
		}
		if string(text) != files[entry.Name()] {
			did.files[entry.Name()] = canonical(string(text))
		}
	}
	return did
}

// canonical sorts the headers that come before an answer.
func canonical(out string) string {
	head, body, ok := strings.Cut(out, "\r\n\r\n")
	if !ok || !strings.HasPrefix(head, "HTTP/") {
		return out
	}
	lines := strings.Split(head, "\r\n")
	slices.Sort(lines[1:])
	return strings.Join(lines, "\r\n") + "\r\n\r\n" + body
}
