package transport_test

import (
	"context"
	"encoding/json"
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

// An answer of an API that rejects a token, and of one that accepts it.
func apiAnswer(status int, header, body string) *http.Response {
	h := http.Header{}
	if header != "" {
		h.Set("WWW-Authenticate", header)
	}
	return &http.Response{StatusCode: status, Header: h, Body: io.NopCloser(strings.NewReader(body))}
}

// APIs say in many words that a token is no longer good. Each gets one refresh and one
// repetition, and what does not help arrives as it came (C15, C16, C42, C44).
func TestWaysToRejectAToken(t *testing.T) {
	const slack = `{"ok":false,"error":"token_expired"}`
	hook := func(resp *http.Response) bool {
		switch resp.StatusCode {
		case 203:
			return resp.Header.Get("X-Sign-In") != ""
		case 200, 400, 403, 500:
			var said struct{ Error string }
			return json.NewDecoder(resp.Body).Decode(&said) == nil && strings.Contains(strings.ToLower(said.Error), "token")
		}
		return false
	}
	for _, tt := range []struct {
		name   string
		hook   func(*http.Response) bool
		status int
		header string
		body   string
		again  bool
	}{
		{"401 with a word of its own", nil, 401, `Bearer error="expired_token"`, "", true},
		{"401 without a word", nil, 401, "", "", true},
		{"403 invalid_token", nil, 403, `Bearer error="invalid_token"`, "", true},
		{"400 of Facebook", nil, 400, `OAuth "Facebook Platform" "invalid_token" "expired"`, "", true},
		{"403", nil, 403, "", `{"error":"InvalidToken"}`, false},
		{"302 invalid_token", nil, 302, `Bearer error="invalid_token"`, "", false},
		{"200 without a hook", nil, 200, "", slack, false},
		{"401 that wants claims", hook, 401, `Bearer error="insufficient_claims", claims="e30"`, "", false},
		{"401 that wants a second factor", hook, 401, `Bearer error="insufficient_user_authentication"`, "", false},
		{"401 that wants a nonce", hook, 401, `DPoP error="use_dpop_nonce"`, "", false},
		{"200 with a hook", hook, 200, "", slack, true},
		{"200 with a hook that finds nothing", hook, 200, "", `{"ok":true}`, false},
		{"200 with a hook, and no JSON", hook, 200, "", strings.Repeat("x", 3*transport.MaxKept), false},
		{"200 with a hook, and JSON without end", hook, 200, "", `{"error":"` + strings.Repeat("x", 3*transport.MaxKept) + `"}`, false},
		{"400 with a hook", hook, 400, "", `{"error":"ExpiredToken"}`, true},
		{"403 with a hook", hook, 403, "", `{"error":"InvalidTokenError"}`, true},
		{"500 with a hook", hook, 500, "", `{"error":"token"}`, true},
		{"204 with a hook", hook, 204, "", "", false},
		{"a hook that reads all and closes", func(resp *http.Response) bool {
			if n, err := io.Copy(io.Discard, resp.Body); n != transport.MaxKept || err != nil {
				t.Errorf("a hook has read %d bytes: %v", n, err)
			}
			resp.Body.Close()
			if n, err := resp.Body.Read(make([]byte, 1)); n != 0 || err != io.EOF {
				t.Errorf("Read after the end: %d, %v", n, err)
			}
			return false
		}, 200, "", strings.Repeat("y", 2*transport.MaxKept), false},
	} {
		for _, helps := range []bool{true, false} {
			t.Run(tt.name, func(t *testing.T) {
				bubble(t, func(t *testing.T) {
					w := newWorld(t, oauthtest.Config{})
					s := w.source()
					w.login(s, "ann")
					time.Sleep(time.Minute)
					calls := 0
					rt, err := transport.New(transport.Config{Source: s, Origins: []string{"https://api.test"}, Rejected: tt.hook,
						Base: testkit.RoundTripFunc(func(r *http.Request) (*http.Response, error) {
							if calls++; calls == 1 || !helps {
								return apiAnswer(tt.status, tt.header, tt.body), nil
							}
							return apiAnswer(200, "", "good"), nil
						})})
					if err != nil {
						t.Fatal(err)
					}
					resp, err := rt.RoundTrip(newRequest(t, "GET", "https://api.test/", nil))
					if err != nil {
						t.Fatal(err)
					}
					b, err := io.ReadAll(resp.Body)
					status, body := tt.status, tt.body
					if tt.again && helps {
						status, body = 200, "good"
					}
					if resp.StatusCode != status || string(b) != body || err != nil {
						t.Errorf("status %d, %d bytes, %v", resp.StatusCode, len(b), err)
					}
					if want := map[bool]int{true: 2, false: 1}[tt.again]; calls != want {
						t.Errorf("%d calls", calls)
					}
					resp.Body.Close()
					w.wantCounts(calls-1, 0)
				})
			})
		}
	}
}

// A hook sees the request of the caller, without the token, and cannot lose the body.
func TestWhatAHookSees(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newWorld(t, oauthtest.Config{})
		s := w.source()
		w.login(s, "ann")
		for _, tt := range []struct {
			name string
			body io.ReadCloser
			read int
			want string
			err  error
		}{
			{"nothing is read", io.NopCloser(strings.NewReader("hello")), 0, "hello", nil},
			{"a part is read", io.NopCloser(strings.NewReader("hello")), 2, "hello", nil},
			{"all is read", io.NopCloser(iotest.DataErrReader(strings.NewReader("hello"))), 10, "hello", nil},
			{"the body fails", io.NopCloser(io.MultiReader(strings.NewReader("he"), iotest.ErrReader(io.ErrUnexpectedEOF))), 10, "he", io.ErrUnexpectedEOF},
			{"no body", nil, 1, "", nil},
			{"a connection in both directions", struct{ io.ReadCloser }{io.NopCloser(strings.NewReader("hello"))}, 0, "hello", nil},
		} {
			status := 200
			if tt.name == "a connection in both directions" {
				status = 101
			}
			var req *http.Request
			rt, err := transport.New(transport.Config{Source: s, Origins: []string{"https://api.test"},
				Rejected: func(resp *http.Response) bool {
					if resp.StatusCode == 101 {
						t.Error("the hook is asked about a connection")
					}
					if resp.Request != req || len(resp.Request.Header) > 0 {
						t.Errorf("%s: the hook sees another request", tt.name)
					}
					io.ReadFull(resp.Body, make([]byte, tt.read))
					return false
				},
				Base: testkit.RoundTripFunc(func(r *http.Request) (*http.Response, error) {
					return &http.Response{StatusCode: status, Body: tt.body, Request: r}, nil
				})})
			if err != nil {
				t.Fatal(err)
			}
			req = newRequest(t, "GET", "https://api.test/", nil).WithContext(context.Background())
			resp, err := rt.RoundTrip(req)
			if err != nil {
				t.Fatal(err)
			}
			if tt.body == nil {
				continue
			}
			if b, err := io.ReadAll(resp.Body); string(b) != tt.want || err != tt.err {
				t.Errorf("%s: %q, %v", tt.name, b, err)
			}
			if tt.read == 0 && resp.Body != tt.body {
				t.Errorf("%s: the body was wrapped", tt.name)
			}
		}
	})
}

// A hook that panics keeps no connection: whoever recovers that has no response to close.
func TestAPanicOfTheHookClosesTheResponse(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newWorld(t, oauthtest.Config{})
		s := w.source()
		w.login(s, "ann")
		body := &seekable{Reader: strings.NewReader("hello"), t: t}
		rt, err := transport.New(transport.Config{Source: s, Origins: []string{"https://api.test"},
			Rejected: func(*http.Response) bool { panic("of the hook") },
			Base: testkit.RoundTripFunc(func(r *http.Request) (*http.Response, error) {
				return &http.Response{StatusCode: 200, Body: body, Request: r}, nil
			})})
		if err != nil {
			t.Fatal(err)
		}
		defer func() {
			if p := recover(); p != "of the hook" || body.closed != 1 {
				t.Errorf("recovered %v, closed %d times", p, body.closed)
			}
		}()
		rt.RoundTrip(newRequest(t, "GET", "https://api.test/", nil))
	})
}
