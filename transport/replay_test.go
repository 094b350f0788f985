package transport_test

import (
	"context"
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"github.com/stayauth/stayauth/transport"
	"github.com/stayauth/stayauth/transport/internal/testkit"
	"github.com/stayauth/stayauth/transport/oauthtest"
)

// A body that never comes does not keep a request past its context, as it would
// not keep net/http.
func TestABodyThatNeverComes(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newWorld(t, oauthtest.Config{})
		s := w.source()
		w.login(s, "ann")
		rt, err := transport.New(transport.Config{Source: s, Origins: []string{w.srv.APIOrigin()}, Base: w.base})
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		body, never := io.Pipe()
		defer never.Close()
		req := newRequest(t, "POST", w.srv.APIURL(), body).WithContext(ctx)
		req.ContentLength = 5
		begun := time.Now()
		_, err = rt.RoundTrip(req)
		if !errors.Is(err, context.DeadlineExceeded) || time.Since(begun) != time.Second {
			t.Errorf("after %v: %v", time.Since(begun), err)
		}
	})
}

// withAPI returns a transport that hands its requests, numbered, to api.
func withAPI(api func(n int, r *http.Request) (*http.Response, error)) http.RoundTripper {
	n := 0
	return testkit.RoundTripFunc(func(r *http.Request) (*http.Response, error) { n++; return api(n, r) })
}

func unauthorized(body io.Reader) (*http.Response, *watchedBody) {
	b := &watchedBody{Reader: body}
	return &http.Response{StatusCode: 401, Header: http.Header{}, Body: b}, b
}

// Which bodies are sent twice, and what the API sees of them.
func TestWhichBodiesAreRepeated(t *testing.T) {
	rewindable := func(r *http.Request) {
		r.GetBody = func() (io.ReadCloser, error) { return io.NopCloser(strings.NewReader("again")), nil }
	}
	for _, tt := range []struct {
		name   string
		max    int64
		length int
		change func(*http.Request)
		want   []string // what arrives; "" for the body
	}{
		{"small", 0, 100, nil, []string{"", ""}},
		{"as large as is kept", 0, 65536, nil, []string{"", ""}},
		{"larger than is kept", 0, 65537, nil, []string{""}},
		{"as large as the program says", 10, 10, nil, []string{"", ""}},
		{"larger than the program says", 10, 11, nil, []string{""}},
		{"none is to be kept", -1, 1, nil, []string{""}},
		{"of unknown length", 0, 100, func(r *http.Request) { r.ContentLength = -1 }, []string{""}},
		{"of a length that was forgotten", 0, 100, func(r *http.Request) { r.ContentLength = 0 }, []string{""}},
		{"with GetBody", -1, 100, rewindable, []string{"", "again"}},
		{"whose GetBody fails", 0, 100, func(r *http.Request) {
			r.GetBody = func() (io.ReadCloser, error) { return nil, io.ErrNoProgress }
		}, []string{""}},
		{"none", 0, 0, func(r *http.Request) { r.Body = nil }, []string{"", ""}},
		{"http.NoBody", 0, 0, func(r *http.Request) { r.Body = http.NoBody }, []string{"", ""}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				w := newWorld(t, oauthtest.Config{})
				s := w.source()
				w.login(s, "ann")
				time.Sleep(time.Minute)
				sent := strings.Repeat("x", tt.length)
				var got []string
				var refused *watchedBody
				rt, err := transport.New(transport.Config{Source: s, Origins: []string{"https://api.test"}, MaxReplayBody: tt.max,
					Base: withAPI(func(n int, r *http.Request) (*http.Response, error) {
						var b []byte
						if r.Body != nil {
							b, _ = io.ReadAll(r.Body)
							r.Body.Close()
						}
						got = append(got, string(b))
						if n == 1 {
							var resp *http.Response
							resp, refused = unauthorized(strings.NewReader("no"))
							return resp, nil
						}
						return &http.Response{StatusCode: 200, Body: http.NoBody}, nil
					})})
				if err != nil {
					t.Fatal(err)
				}
				body := &watchedBody{Reader: strings.NewReader(sent)}
				req := newRequest(t, "POST", "https://api.test/", body)
				req.ContentLength = int64(tt.length)
				if tt.change != nil {
					tt.change(req)
				}
				hasBody := req.Body == body
				resp, err := rt.RoundTrip(req)
				if err != nil {
					t.Fatal(err)
				}
				if want := map[bool]int{true: 200, false: 401}[len(tt.want) == 2]; resp.StatusCode != want {
					t.Errorf("status %d, want %d", resp.StatusCode, want)
				}
				if resp.StatusCode == 401 {
					if b, err := io.ReadAll(resp.Body); string(b) != "no" || err != nil {
						t.Errorf("the first answer arrived as %q, %v", b, err)
					}
					resp.Body.Close()
				}
				if refused.closed.Load() == 0 || hasBody && body.closed.Load() == 0 {
					t.Error("a body was not closed")
				}
				if len(got) != len(tt.want) {
					t.Fatalf("%d requests arrived, want %d", len(got), len(tt.want))
				}
				for i, want := range tt.want {
					if want == "" {
						want = sent
					}
					if got[i] != want {
						t.Errorf("request %d has a body of %d bytes, want %d", i+1, len(got[i]), len(want))
					}
				}
				w.wantCounts(1, 0) // The next request has a new token in any case.
			})
		})
	}
}

// The answers that are given up, or handed on after all: read as far as they can
// be, and closed.
func TestWhatBecomesOfTheFirst401(t *testing.T) {
	large := strings.Repeat("y", 3*transport.MaxKept)
	for _, tt := range []struct {
		name    string
		first   io.Reader
		second  error // of the repeated request
		want    string
		wantErr error
	}{
		{"as long as is kept", strings.NewReader(large[:transport.MaxKept]), io.EOF, large[:transport.MaxKept], nil},
		{"longer than is kept", strings.NewReader(large), io.EOF, large, nil},
		{"a body that fails", io.MultiReader(strings.NewReader("begin"), iotest.ErrReader(io.ErrUnexpectedEOF)), io.EOF, "begin", io.ErrUnexpectedEOF},
		{"given up", strings.NewReader(large), nil, "", nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				w := newWorld(t, oauthtest.Config{})
				s := w.source()
				w.login(s, "ann")
				time.Sleep(time.Minute)
				resp401, watched := unauthorized(tt.first)
				rt, err := transport.New(transport.Config{Source: s, Origins: []string{"https://api.test"},
					Base: withAPI(func(n int, r *http.Request) (*http.Response, error) {
						if n == 1 {
							return resp401, nil
						}
						return &http.Response{StatusCode: 200, Body: http.NoBody}, tt.second
					})})
				if err != nil {
					t.Fatal(err)
				}
				resp, err := rt.RoundTrip(newRequest(t, "GET", "https://api.test/", nil))
				if err != nil {
					t.Fatal(err)
				}
				b, err := io.ReadAll(resp.Body)
				if string(b) != tt.want || err != tt.wantErr {
					t.Errorf("%d bytes, %v; want %d, %v", len(b), err, len(tt.want), tt.wantErr)
				}
				resp.Body.Close()
				if watched.closed.Load() == 0 {
					t.Error("its body was not closed")
				}
			})
		})
	}
}

// A 401 to the repeated request as well is the caller's: there is no third one. The
// token is in the one header, never in the query (C13, C15).
func TestARequestIsRepeatedOnce(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newWorld(t, oauthtest.Config{})
		s := w.source()
		w.login(s, "ann")
		time.Sleep(time.Minute)
		var tokens []string
		rt, err := transport.New(transport.Config{Source: s, Origins: []string{"https://api.test"},
			Base: withAPI(func(n int, r *http.Request) (*http.Response, error) {
				tokens = append(tokens, r.Header.Get("Authorization"))
				if r.URL.RawQuery != "q=1" || len(r.Header.Values("Authorization")) != 1 || r.Header.Get("X-Test") != "1" {
					t.Errorf("query %q, %d Authorization headers", r.URL.RawQuery, len(r.Header.Values("Authorization")))
				}
				resp, _ := unauthorized(strings.NewReader(strings.Repeat("n", n)))
				return resp, nil
			})})
		if err != nil {
			t.Fatal(err)
		}
		req := newRequest(t, "GET", "https://api.test/?q=1", nil)
		req.Header.Set("X-Test", "1")
		resp, err := rt.RoundTrip(req)
		if err != nil {
			t.Fatal(err)
		}
		if b, _ := io.ReadAll(resp.Body); resp.StatusCode != 401 || string(b) != "nn" {
			t.Errorf("status %d, body %q", resp.StatusCode, b)
		}
		if len(tokens) != 2 || tokens[0] == tokens[1] || !strings.HasPrefix(tokens[1], "Bearer ") {
			t.Errorf("%d requests, or the same token twice", len(tokens))
		}
		w.wantCounts(1, 0)
	})
}
