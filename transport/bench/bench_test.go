package bench

import (
	"encoding/base64"
	"encoding/xml"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/stayauth/stayauth/testdata/realparts"
)

func TestMain(m *testing.M) {
	Child()
	os.Exit(m.Run())
}

func BenchmarkRequest(b *testing.B) {
	for _, w := range ways {
		for _, c := range contenders {
			b.Run(w.String()+"/"+c.name, func(b *testing.B) {
				rt, err := c.make(stub{}, apiOrigin)
				if err != nil {
					b.Fatal(err)
				}
				b.ReportAllocs()
				if w.parallel {
					b.RunParallel(func(pb *testing.PB) {
						req := newRequest(w.method, apiURL)
						for pb.Next() {
							if err := call(rt, req); err != nil {
								b.Error(err)
								return
							}
						}
					})
					return
				}
				req := newRequest(w.method, apiURL)
				for b.Loop() {
					if err := call(rt, req); err != nil {
						b.Fatal(err)
					}
				}
			})
		}
	}
}

// BenchmarkLogins decides about the table of a Pool. It takes about 4 KB of memory a login.
func BenchmarkLogins(b *testing.B) {
	for _, n := range []int{10_000, 1_000_000} {
		p, err := fill(b.Context(), n)
		if err != nil {
			b.Fatal(err)
		}
		for name, f := range map[string]func(string) error{"look": p.look, "request": p.request} {
			b.Run(name+"/"+tick(float64(n)), func(b *testing.B) {
				b.ReportAllocs()
				for i := 0; b.Loop(); i++ {
					if err := f(p.accounts[i%n]); err != nil {
						b.Fatal(err)
					}
				}
			})
		}
	}
}

// Every contender sends the token, and leaves the caller's request as it was.
func TestContenders(t *testing.T) {
	var got string
	watch = func(req *http.Request) { got = req.Header.Get("Authorization") }
	defer func() { watch = nil }()
	for _, c := range contenders[1:] {
		rt, err := c.make(stub{}, apiOrigin)
		if err != nil {
			t.Fatal(err)
		}
		for _, method := range []string{"GET", "POST"} {
			req := newRequest(method, apiURL)
			got = ""
			if _, err := rt.RoundTrip(req); err != nil {
				t.Fatalf("%s: %v", c.name, err)
			}
			if got != prebuilt[0] {
				t.Errorf("%s sent %q", c.name, got)
			}
			if req.Header.Get("Authorization") != "" {
				t.Errorf("%s has changed the request", c.name)
			}
		}
	}
}

// Every contender with a bound token sends a proof of the algorithm that is measured.
func TestProofs(t *testing.T) {
	var got http.Header
	watch = func(req *http.Request) { got = req.Header }
	defer func() { watch = nil }()
	for _, alg := range []string{"ES256", "EdDSA", "PS256"} {
		field, err := Proofs(alg)
		if err != nil {
			t.Fatal(err)
		}
		for _, c := range field {
			rt, err := c.make(stub{}, apiOrigin)
			if err != nil {
				t.Fatal(err)
			}
			req := newRequest(http.MethodGet, apiURL)
			if _, err := rt.RoundTrip(req); err != nil {
				t.Fatalf("%s, %s: %v", alg, c.name, err)
			}
			header, _, _ := strings.Cut(got.Get("DPoP"), ".")
			if text, err := base64.RawURLEncoding.DecodeString(header); err != nil || !strings.Contains(string(text), `"alg":"`+alg+`"`) {
				t.Errorf("%s, %s: the header of the proof is %q, %v", alg, c.name, text, err)
			}
			if got.Get("Authorization") != bound[0] || req.Header.Get("Authorization") != "" {
				t.Errorf("%s, %s sent %q, and the caller's request has %q", alg, c.name, got.Get("Authorization"), req.Header.Get("Authorization"))
			}
		}
	}
}

// The measurements work, in small; their results say nothing here.
func TestMeasurements(t *testing.T) {
	requests, err := Requests(1, 1)
	if err != nil {
		t.Fatal(err)
	}
	var text strings.Builder
	requests.WriteTable(&text)
	requests.WriteBenchstat(&text)

	proofs, err := Proofs("ES256")
	if err != nil {
		t.Fatal(err)
	}
	for _, field := range [][]contender{Bearer(), proofs, Assertions()} {
		served, err := Served(t.Context(), ServedConfig{Runs: 1, Slices: 1, Requests: 8, Connections: []int{1, 2}, HTTP1: true, HTTP2: true}, field)
		if err != nil {
			t.Fatal(err)
		}
		served.WriteTable(&text)
	}

	rotation, err := Rotate(t.Context(), 1, 4, 300*time.Millisecond)
	if err != nil {
		t.Fatal(err)
	}
	rotation.WriteTable(&text)
	valid(t, rotation.Plot())

	stampede, err := Stampedes(t.Context(), 1, 100)
	if err != nil {
		t.Fatal(err)
	}
	if n := stampede.TokenRequests; len(n) != 2 || n[0] != 1 || n[1] != 1 {
		t.Errorf("token requests were %d, want [1 1]", n)
	}
	stampede.WriteTable(&text)

	logins, err := MeasureLogins(t.Context(), 1, 100, 1000)
	if err != nil {
		t.Fatal(err)
	}
	logins.WriteTable(&text)
	valid(t, logins.Plot())
	if strings.Contains(text.String(), "NaN") {
		t.Errorf("there is something without a value:\n%s", text.String())
	}
}

func TestHang(t *testing.T) {
	h, err := MeasureHang(t.Context(), 100, time.Second, time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	if len(h.Hung) != 100 || len(h.Calm) != 100 || h.Failed != 0 || h.TokenRequests != 1 {
		t.Errorf("%d and %d requests, %d failed, %d token requests; want 100, 100, 0, 1", len(h.Hung), len(h.Calm), h.Failed, h.TokenRequests)
	}
	var text strings.Builder
	h.WriteTable(&text)
	if strings.Contains(text.String(), "NaN") {
		t.Errorf("there is something without a value:\n%s", text.String())
	}
}

func TestProcesses(t *testing.T) {
	c, err := Processes(t.Context(), 3, 2)
	if err != nil {
		t.Fatal(err)
	}
	// A process that the machine lets wait for longer than a token lives makes a request of its own.
	if len(c.Beyond) != 3*2 || c.TokenRequests < 2 || c.TokenRequests > 3*2 || c.Reuses != 0 {
		t.Errorf("%d times, %d token requests, %d reuses; want 6, 2 to 6, and 0", len(c.Beyond), c.TokenRequests, c.Reuses)
	}
}

func TestMonth(t *testing.T) {
	var file strings.Builder
	file.WriteString("outage,300,320,time-outs\n")
	for i := range 3000 {
		n := 120
		if i == 321 {
			n = 240
		}
		fmt.Fprintf(&file, "%d,%d,%d\n", i, n, n/2)
	}
	m, err := ReadMonth(strings.NewReader(file.String()))
	if err != nil {
		t.Fatal(err)
	}
	var table strings.Builder
	m.WriteTable(&table)
	if !strings.Contains(table.String(), "| time-outs | 20 min | 2.0 | 1.0 |") || !strings.Contains(table.String(), "2.00 token requests a second") {
		t.Errorf("%s", table.String())
	}
	valid(t, m.Plot())
	if _, err := ReadMonth(strings.NewReader("x")); err == nil {
		t.Error("no error for what is no month")
	}
}

func TestStart(t *testing.T) {
	s, err := MeasureStart(t.Context(), 2, realparts.Keyring(t).Env)
	if err != nil {
		t.Fatal(err)
	}
	if len(s.Stayauth) != 2 || len(s.OAuth2) != 2 || len(s.Keyring) != 2 || len(s.OAuth2AndRead) != 2 {
		t.Errorf("%+v", s)
	}
}

// BenchmarkStart needs a keyring of its own, so it is no part of cmd/measure. It prints
// the table: go test -run '^$' -bench Start -benchtime 30x .
func BenchmarkStart(b *testing.B) {
	s, err := MeasureStart(b.Context(), b.N, realparts.Keyring(b).Env)
	if err != nil {
		b.Fatal(err)
	}
	var table strings.Builder
	s.WriteTable(&table)
	b.Logf("\n%s", table.String())
	b.ReportMetric(Median(ratios(s.Keyring, s.OAuth2AndRead)), "x/oauth2+read")
	b.ReportMetric(Median(ratios(s.Stayauth, s.OAuth2)), "x/oauth2")
}

// valid fails unless svg is well-formed and has no number that is none.
func valid(t *testing.T, svg string) {
	t.Helper()
	for d := xml.NewDecoder(strings.NewReader(svg)); ; {
		_, err := d.Token()
		if err == io.EOF {
			break
		}
		if err != nil {
			t.Fatalf("%v in\n%s", err, svg)
		}
	}
	if strings.Contains(svg, "NaN") || strings.Contains(svg, "Inf") {
		t.Errorf("a point without a place in\n%s", svg)
	}
}
