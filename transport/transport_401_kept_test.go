package transport_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"github.com/stayauth/stayauth/transport"
	"github.com/stayauth/stayauth/transport/oauthtest"
)

// A 401 whose body does not end, or comes slowly, is neither waited for nor lost.
func TestA401WhoseBodyStalls(t *testing.T) {
	for _, tt := range []struct {
		name     string
		deadline time.Duration
		prepare  func(*world)
		second   error // of the repeated request
		status   int
		after    time.Duration
	}{
		{"and the repeated request succeeds", 0, nil, nil, 200, transport.KeepTime},
		{"and it fails", 0, nil, io.EOF, 401, transport.KeepTime},
		{"and time is short", time.Second, nil, nil, 200, 500 * time.Millisecond},
		{"and the refresh fails", 0, func(w *world) {
			w.srv.Fault("/token", 0, oauthtest.Answer(400, "application/json", `{"error":"invalid_grant"}`))
		}, nil, 401, 0},
		{"and the provider hangs", 0, func(w *world) { w.srv.Fault("/token", 0, oauthtest.Hang) }, nil, 401, transport.RejectTime},
		{"and the provider hangs, and time is short", 4 * time.Second, func(w *world) { w.srv.Fault("/token", 0, oauthtest.Hang) }, nil, 401, 2 * time.Second},
	} {
		t.Run(tt.name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				w := newWorld(t, oauthtest.Config{})
				s := w.source()
				w.login(s, "ann")
				time.Sleep(time.Minute)
				if tt.prepare != nil {
					tt.prepare(w)
				}
				body, out := io.Pipe()
				w.base = withAPI(func(n int, r *http.Request) (*http.Response, error) {
					if n > 1 {
						return &http.Response{StatusCode: 200, Body: http.NoBody}, tt.second
					}
					go io.WriteString(out, "refused")
					return &http.Response{StatusCode: 401, Body: body}, nil
				})
				ctx := t.Context()
				if tt.deadline > 0 {
					var cancel context.CancelFunc
					ctx, cancel = context.WithTimeout(ctx, tt.deadline)
					defer cancel()
				}
				begun := time.Now()
				resp, err := w.client(s).Transport.RoundTrip(newRequest(t, "GET", w.srv.APIURL(), nil).WithContext(ctx))
				if err != nil || resp.StatusCode != tt.status || time.Since(begun) != tt.after {
					t.Fatalf("after %v: %v, %v", time.Since(begun), resp, err)
				}
				if tt.status == 401 {
					b := make([]byte, 7)
					if _, err := io.ReadFull(resp.Body, b); string(b) != "refused" || err != nil || time.Since(begun) != tt.after {
						t.Errorf("after %v: %q, %v", time.Since(begun), b, err)
					}
					go func() {
						io.WriteString(out, " because")
						out.Close()
					}()
					if b, err := io.ReadAll(resp.Body); string(b) != " because" || err != nil {
						t.Errorf("the rest is %q, %v", b, err)
					}
				}
				resp.Body.Close()
				if _, err := out.Write([]byte("x")); err != io.ErrClosedPipe {
					t.Errorf("the body was not closed: %v", err)
				}
				w.end(s)
			})
		})
	}
}

// A response that nothing can be done about is not held back: the refresh is for the
// next request.
func TestA401ToARequestThatCannotBeRepeated(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newWorld(t, oauthtest.Config{Latency: time.Second})
		s := w.source()
		tokens := w.login(s, "ann")
		time.Sleep(time.Minute)
		w.srv.RevokeAccess(tokens.AccessToken)
		c := w.client(s)
		begun := time.Now()
		resp, err := c.Post(w.srv.APIURL(), "text/plain", io.MultiReader(strings.NewReader("x")))
		if err != nil || resp.StatusCode != 401 || time.Since(begun) != 0 {
			t.Fatalf("after %v: %v", time.Since(begun), err)
		}
		if d := closeTook(resp); d != time.Second { // as with any refresh in the background
			t.Errorf("Close took %v", d)
		}
		if status, _ := get(t, c, w.srv.APIURL()); status != 200 {
			t.Errorf("status %d", status)
		}
		w.wantCounts(1, 0)
	})
}

// With one connection to the API, the repeated request needs that of the first.
func TestA401FreesTheOnlyConnection(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newWorld(t, oauthtest.Config{})
		s := w.source()
		tokens := w.login(s, "ann")
		time.Sleep(time.Minute)
		w.srv.RevokeAccess(tokens.AccessToken)
		w.base.(*http.Transport).MaxConnsPerHost = 1
		begun := time.Now()
		if status, _ := get(t, w.client(s), w.srv.APIURL()); status != 200 || time.Since(begun) > transport.KeepTime {
			t.Errorf("status %d after %v", status, time.Since(begun))
		}
	})
}

// If the first answer is too large or too slow to be kept, it is returned: the repeated
// request would wait for its connection for ever.
func TestA401ThatKeepsTheOnlyConnection(t *testing.T) {
	large := oauthtest.Answer(401, "text/plain", strings.Repeat("x", 1<<20))
	for name, answer := range map[string]oauthtest.Fault{"large": large, "slow": oauthtest.Stall(oauthtest.Challenge(401))} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				w := newWorld(t, oauthtest.Config{})
				s := w.source()
				w.login(s, "ann")
				time.Sleep(time.Minute)
				w.srv.Fault("/api", 1, answer)
				w.base.(*http.Transport).MaxConnsPerHost = 1
				c := w.client(s)
				begun := time.Now()
				ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
				defer cancel()
				resp, err := c.Do(newRequest(t, "GET", w.srv.APIURL(), nil).WithContext(ctx))
				if err != nil || resp.StatusCode != 401 || time.Since(begun) > transport.KeepTime {
					t.Fatalf("after %v: %v, %v", time.Since(begun), resp, err)
				}
				if name == "large" {
					if b, err := io.ReadAll(resp.Body); len(b) != 1<<20 || err != nil {
						t.Errorf("%d bytes, %v", len(b), err)
					}
				}
				resp.Body.Close()
				if status, _ := get(t, c, w.srv.APIURL()); status != 200 {
					t.Errorf("the next request: %d", status)
				}
			})
		})
	}
}

// A Base that breaks the rules of net/http.RoundTripper breaks nothing more.
func TestAResponseWithoutABody(t *testing.T) {
	for _, tt := range []struct {
		name          string
		first, second *http.Response
		want          int // 0: none
	}{
		{"nil body", &http.Response{StatusCode: 401}, &http.Response{StatusCode: 200}, 200},
		{"nil body, and no second response", &http.Response{StatusCode: 401}, nil, 401},
		{"no response", nil, nil, 0},
	} {
		for _, age := range []time.Duration{time.Minute, 58 * time.Minute} {
			t.Run(tt.name, func(t *testing.T) {
				bubble(t, func(t *testing.T) {
					w := newWorld(t, oauthtest.Config{})
					s := w.source()
					w.login(s, "ann")
					time.Sleep(age)
					w.base = withAPI(func(n int, r *http.Request) (*http.Response, error) {
						if n == 1 {
							return tt.first, nil
						}
						return tt.second, nil
					})
					resp, err := w.client(s).Transport.RoundTrip(newRequest(t, "GET", w.srv.APIURL(), nil))
					if err != nil || (resp == nil) != (tt.want == 0) || resp != nil && resp.StatusCode != tt.want {
						t.Errorf("%v, %v", resp, err)
					}
					w.end(s)
				})
			})
		}
	}
}

// However a body arrives and is read, it is the same.
func TestAKeptBodyIsTheSame(t *testing.T) {
	for _, size := range []int{0, 1, 4096, transport.MaxKept - 1, transport.MaxKept, transport.MaxKept + 1, 3 * transport.MaxKept} {
		for _, end := range []error{nil, io.ErrUnexpectedEOF} {
			for name, arrives := range map[string]func(io.Reader) io.Reader{
				"whole": func(r io.Reader) io.Reader { return r }, "halves": iotest.HalfReader, "with its end": iotest.DataErrReader,
			} {
				want := bytes.Repeat([]byte("x"), size)
				var r io.Reader = bytes.NewReader(want)
				if end != nil {
					r = io.MultiReader(r, iotest.ErrReader(end))
				}
				taken := new(bytes.Buffer)
				resp := &http.Response{Body: io.NopCloser(io.TeeReader(arrives(r), taken))}
				k := transport.Keep(resp)
				if size%2 == 0 { // also while it is being kept
					<-k.Done()
					if taken.Len() > transport.MaxKept+4<<10 {
						t.Errorf("%d bytes are kept", taken.Len())
					}
				}
				got, err := io.ReadAll(iotest.HalfReader(resp.Body))
				if !bytes.Equal(got, want) || !errors.Is(err, end) {
					t.Errorf("%s: %d bytes of %d, %v", name, len(got), size, err)
				}
				resp.Body.Close()
			}
		}
	}
}
