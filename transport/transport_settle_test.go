package transport_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stayauth/stayauth/transport"
	"github.com/stayauth/stayauth/transport/internal/testkit"
	"github.com/stayauth/stayauth/transport/oauthtest"
)

// closeTook returns how long the Close of the response's body takes.
func closeTook(resp *http.Response) time.Duration {
	begun := time.Now()
	resp.Body.Close()
	return time.Since(begun)
}

// A program that exits after its last response does not interrupt the refresh that one
// of its calls has started: the Close of the body waits, but neither does the response,
// nor does the Close for ever.
func TestTheEndOfARequestWaitsForTheRefresh(t *testing.T) {
	for _, tt := range []struct {
		name    string
		latency time.Duration
		settle  time.Duration
		prepare func(*transport.Source)
		waits   time.Duration
	}{
		{"until it is saved", time.Second, 0, nil, time.Second},
		{"not for ever", 10 * time.Second, 0, nil, 5 * time.Second},
		{"as long as it is told", 10 * time.Second, 2 * time.Second, nil, 2 * time.Second},
		{"not if told so", 10 * time.Second, -1, nil, 0},
		{"not in a service", 10 * time.Second, 0, func(s *transport.Source) { s.Keepers().Add(1) }, 0},
		{"also if another call has started it", 10 * time.Second, 0, func(s *transport.Source) { startRefresh(s); time.Sleep(time.Second) }, 4 * time.Second},
		{"not if it is old already", 10 * time.Second, 0, func(s *transport.Source) { startRefresh(s); time.Sleep(5 * time.Second) }, 0},
	} {
		for _, failing := range []bool{false, true} {
			name := tt.name
			if failing {
				name += ", and the request fails"
			}
			t.Run(name, func(t *testing.T) {
				bubble(t, func(t *testing.T) {
					w := newWorld(t, oauthtest.Config{Policy: oauthtest.StrictFamily, Latency: tt.latency})
					s := w.source()
					w.login(s, "ann")
					rt, err := transport.New(transport.Config{Source: s, Origins: []string{w.srv.APIOrigin()}, Base: w.base, Settle: tt.settle})
					if err != nil {
						t.Fatal(err)
					}
					time.Sleep(58 * time.Minute)
					if tt.prepare != nil {
						tt.prepare(s)
					}
					if failing {
						w.srv.Fault("/api", 0, oauthtest.Drop)
					}
					begun := time.Now()
					resp, err := rt.RoundTrip(newRequest(t, "GET", w.srv.APIURL(), nil))
					took := time.Since(begun)
					switch {
					case failing && (err == nil || took != tt.waits):
						t.Errorf("the error %v came after %v, want %v", err, took, tt.waits)
					case !failing && (err != nil || took != 0):
						t.Fatalf("the response came after %v: %v", took, err)
					case !failing:
						if b, err := io.ReadAll(resp.Body); len(b) == 0 || err != nil || time.Since(begun) != 0 {
							t.Errorf("the body was read after %v: %v", time.Since(begun), err)
						}
						if d := closeTook(resp); d != tt.waits {
							t.Errorf("Close took %v, want %v", d, tt.waits)
						}
						if d := closeTook(resp); d != 0 && tt.waits < 5*time.Second {
							t.Errorf("another Close took %v", d)
						}
					}
					if err := s.Close(t.Context()); err != nil {
						t.Error(err)
					}
					if g := w.stored(s).Generation; g != 2 {
						t.Errorf("generation %d after Close", g)
					}
				})
			})
		}
	}
}

// startRefresh starts a refresh in the background, as any call may.
func startRefresh(s *transport.Source) {
	s.Mu().Lock()
	defer s.Mu().Unlock()
	s.StartInBackground(context.Background(), transport.WallNow())
}

// A service whose provider hangs answers at once: of all its requests, only one waits.
func TestOneRequestWaitsForARefresh(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newWorld(t, oauthtest.Config{Latency: time.Minute})
		s := w.source()
		w.login(s, "ann")
		time.Sleep(58 * time.Minute)
		c := w.client(s)
		var mu sync.Mutex
		late := 0
		var wg sync.WaitGroup
		for i := range 100 {
			wg.Go(func() {
				time.Sleep(time.Duration(i) * 100 * time.Millisecond)
				begun := time.Now()
				if status, _ := get(t, c, w.srv.APIURL()); status != 200 {
					t.Errorf("status %d", status)
				}
				if time.Since(begun) > 0 {
					mu.Lock()
					late++
					mu.Unlock()
				}
			})
		}
		wg.Wait()
		if late != 1 {
			t.Errorf("%d requests waited", late)
		}
		w.end(s)
	})
}

// While a token is good, a response is whole and in time, also for a caller that is in
// a hurry while the provider hangs.
func TestAHangingProviderDelaysNoResponse(t *testing.T) {
	for _, size := range []int{0, 500, 10_000, 100_000, 5_000_000} {
		bubble(t, func(t *testing.T) {
			w := newWorld(t, oauthtest.Config{})
			s := w.source()
			w.login(s, "ann")
			w.srv.Fault("/token", 0, oauthtest.Hang)
			w.srv.Fault("/api", 0, oauthtest.Answer(200, "text/plain", strings.Repeat("x", size)))
			time.Sleep(58 * time.Minute)
			c := w.client(s)
			c.Timeout = 500 * time.Millisecond
			for range 10 {
				begun := time.Now()
				resp, err := c.Get(w.srv.APIURL())
				if err != nil {
					t.Fatal(err)
				}
				b, err := io.ReadAll(resp.Body)
				if len(b) != size || err != nil || time.Since(begun) > 0 {
					t.Errorf("%d of %d bytes after %v: %v", len(b), size, time.Since(begun), err)
				}
				resp.Body.Close()
			}
			w.end(s)
		})
	}
}

// Events of a stream arrive when they are sent.
func TestAnEventStreamIsNotDelayed(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newWorld(t, oauthtest.Config{})
		s := w.source()
		w.login(s, "ann")
		w.srv.Fault("/token", 0, oauthtest.Hang)
		events, out := io.Pipe()
		w.base = testkit.RoundTripFunc(func(*http.Request) (*http.Response, error) {
			go func() {
				for {
					if _, err := io.WriteString(out, "data: 1\n\n"); err != nil {
						return
					}
					time.Sleep(time.Second)
				}
			}()
			return &http.Response{StatusCode: 200, Body: events}, nil
		})
		time.Sleep(58 * time.Minute)
		begun := time.Now()
		resp, err := w.client(s).Get(w.srv.APIURL())
		if err != nil {
			t.Fatal(err)
		}
		event := make([]byte, 9)
		for i := range 3 {
			if _, err := io.ReadFull(resp.Body, event); err != nil || time.Since(begun) != time.Duration(i)*time.Second {
				t.Errorf("event %d after %v: %v", i, time.Since(begun), err)
			}
		}
		resp.Body.Close()
		w.end(s)
	})
}

// Redirects are followed at once, and what they lead to waits, wherever it is.
func TestTheLastHopOfARedirectWaits(t *testing.T) {
	for i, target := range []string{"https://elsewhere.test/", "https://auth.test/api", "https://elsewhere.test/", "https://elsewhere.test/", "https://elsewhere.test/"} {
		status := []int{301, 302, 303, 307, 308}[i]
		t.Run(fmt.Sprint(status, " ", target), func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				w := newWorld(t, oauthtest.Config{Latency: time.Second})
				s := w.source()
				w.login(s, "ann")
				time.Sleep(58 * time.Minute)
				w.srv.Fault("/api/redirect", 1, oauthtest.Redirect(status, target))
				begun := time.Now()
				resp, err := w.client(s).Get(w.srv.APIURL() + "/redirect")
				if err != nil || time.Since(begun) != 0 {
					t.Fatalf("after %v: %v", time.Since(begun), err)
				}
				if d := closeTook(resp); d != time.Second {
					t.Errorf("Close took %v", d)
				}
				w.wantCounts(1, 0)
			})
		})
	}
}

// A redirect that is not followed looks like any other when its body is closed: Flush sees
// to the end of the refresh.
func TestARedirectThatIsNotFollowed(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newWorld(t, oauthtest.Config{Policy: oauthtest.StrictFamily, Latency: time.Second})
		s := w.source()
		w.login(s, "ann")
		time.Sleep(58 * time.Minute)
		w.srv.Fault("/api", 1, oauthtest.Redirect(302, "/api/elsewhere"))
		c := w.client(s)
		c.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
		resp, err := c.Get(w.srv.APIURL())
		if err != nil {
			t.Fatal(err)
		}
		if d := closeTook(resp); d != 0 {
			t.Errorf("Close took %v", d)
		}
		if err := s.Flush(t.Context()); err != nil || w.stored(s).Generation != 2 {
			t.Errorf("generation %d, %v", w.stored(s).Generation, err)
		}
	})
}

// What an API answers keeps its form: an empty body, and a connection in both
// directions.
func TestBodiesKeepTheirForm(t *testing.T) {
	ours, theirs := net.Pipe()
	defer theirs.Close()
	for _, tt := range []struct {
		name string
		resp *http.Response
	}{
		{"HEAD", &http.Response{StatusCode: 200, Body: http.NoBody}},
		{"204", &http.Response{StatusCode: 204, Body: http.NoBody}},
		{"304 with Location", &http.Response{StatusCode: 304, Header: http.Header{"Location": {"/"}}, Body: http.NoBody}},
		{"302 without", &http.Response{StatusCode: 302, Body: http.NoBody}},
		{"101", &http.Response{StatusCode: 101, Body: ours}},
		{"101 that can be closed in one direction", &http.Response{StatusCode: 101, Body: halfConn{ours}}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				w := newWorld(t, oauthtest.Config{Latency: time.Second})
				s := w.source()
				w.login(s, "ann")
				time.Sleep(58 * time.Minute)
				w.base = testkit.RoundTripFunc(func(*http.Request) (*http.Response, error) { return tt.resp, nil })
				body := tt.resp.Body
				resp, err := w.client(s).Transport.RoundTrip(newRequest(t, "GET", w.srv.APIURL(), nil))
				if err != nil {
					t.Fatal(err)
				}
				_, was := body.(io.Writer)
				_, is := resp.Body.(io.Writer)
				if was != is {
					t.Errorf("a Writer: %v", is)
				}
				if c, ok := resp.Body.(interface{ CloseWrite() error }); ok {
					_, can := body.(halfConn)
					if err := c.CloseWrite(); errors.Is(err, http.ErrNotSupported) == can {
						t.Errorf("CloseWrite: %v", err)
					}
				}
				if d := closeTook(resp); d != time.Second {
					t.Errorf("Close took %v", d)
				}
			})
		})
	}
}

type halfConn struct{ net.Conn }

func (halfConn) CloseWrite() error { return nil }

// A response costs nothing more if the token was fresh.
func TestAFreshTokensResponseIsHandedOverAsItIs(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newWorld(t, oauthtest.Config{})
		s := w.source()
		w.login(s, "ann")
		body := io.NopCloser(strings.NewReader(""))
		w.base = testkit.RoundTripFunc(func(*http.Request) (*http.Response, error) {
			return &http.Response{StatusCode: 200, Body: body}, nil
		})
		resp, err := w.client(s).Transport.RoundTrip(newRequest(t, "GET", w.srv.APIURL(), nil))
		if err != nil || resp.Body != body {
			t.Errorf("the body is %T: %v", resp.Body, err)
		}
		synctest.Wait()
	})
}

// end ends a Source whose provider hangs, which would wait for long.
func (w *world) end(s *transport.Source) {
	w.t.Helper()
	w.srv.Down()
	if err := s.Close(w.t.Context()); err != nil {
		w.t.Error(err)
	}
}
