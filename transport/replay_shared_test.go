package transport_test

import (
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stayauth/stayauth/transport"
	"github.com/stayauth/stayauth/transport/oauthtest"
)

// A sharedBody is what the GetBody of connect-go returns each time: one reader, rewound.
type sharedBody struct {
	*strings.Reader
	closed int
	stuck  chan struct{} // if not nil, reads wait for it
}

func (b *sharedBody) Read(p []byte) (int, error) {
	if b.stuck != nil {
		<-b.stuck
	}
	return b.Reader.Read(p)
}

func (b *sharedBody) Close() error { b.closed++; return nil }

func (b *sharedBody) again() (io.ReadCloser, error) {
	b.Reader.Seek(0, io.SeekStart)
	return b, nil
}

// An API that rejects a token before it has read the request gets the whole body the second
// time, even if that of the first request is still being sent, and is the same.
func TestABodyThatIsStillBeingSent(t *testing.T) {
	for _, retried := range []bool{false, true} {
		bubble(t, func(t *testing.T) {
			w := newWorld(t, oauthtest.Config{})
			s := w.source()
			w.login(s, "ann")
			time.Sleep(time.Minute)
			body := &sharedBody{Reader: strings.NewReader(strings.Repeat("x", 1<<20))}
			w.base = withAPI(func(n int, r *http.Request) (*http.Response, error) {
				if n == 1 {
					sending := r.Body
					if retried { // by the base transport, over another connection
						io.ReadFull(r.Body, make([]byte, 1000))
						r.Body.Close()
						var err error
						if sending, err = r.GetBody(); err != nil {
							t.Fatal(err)
						}
					}
					io.ReadFull(sending, make([]byte, 1000))
					t.Cleanup(func() {
						if n, err := sending.Read(make([]byte, 10)); n > 0 || err != transport.ErrRewound {
							t.Errorf("the first request is sent on: %d, %v", n, err)
						}
						sending.Close()
					})
					resp, _ := unauthorized(strings.NewReader("no"))
					return resp, nil
				}
				b, err := io.ReadAll(r.Body)
				if len(b) != 1<<20 || err != nil {
					t.Errorf("%d bytes arrived: %v", len(b), err)
				}
				r.Body.Close()
				return &http.Response{StatusCode: 200, Body: http.NoBody}, nil
			})
			req := newRequest(t, "POST", w.srv.APIURL(), body)
			req.GetBody = body.again
			if resp, err := w.client(s).Transport.RoundTrip(req); err != nil || resp.StatusCode != 200 {
				t.Fatalf("%v, %v", resp, err)
			}
			if want := map[bool]int{false: 2, true: 3}[retried]; body.closed != want {
				t.Errorf("closed %d times, want each time that it was sent, which is %d", body.closed, want)
			}
		})
	}
}

// A read of the first body that does not end keeps nobody from the answer.
func TestABodyThatCannotBeTakenAway(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newWorld(t, oauthtest.Config{})
		s := w.source()
		w.login(s, "ann")
		time.Sleep(time.Minute)
		body := &sharedBody{Reader: strings.NewReader("hello"), stuck: make(chan struct{})}
		w.base = withAPI(func(n int, r *http.Request) (*http.Response, error) {
			go io.ReadAll(r.Body)
			time.Sleep(time.Second)
			resp, _ := unauthorized(strings.NewReader("no"))
			return resp, nil
		})
		req := newRequest(t, "POST", w.srv.APIURL(), body)
		req.GetBody = body.again
		begun := time.Now()
		resp, err := w.client(s).Transport.RoundTrip(req)
		if err != nil || resp.StatusCode != 401 || time.Since(begun) > 10*time.Second {
			t.Errorf("%v, %v, after %v", resp, err, time.Since(begun))
		}
		close(body.stuck)
	})
}

// A body that http.NewRequest can send again is sent as it is: net/http sends what it knows to
// be in memory in one piece with the header. Whatever else has GetBody is not.
func TestBodiesInMemoryAreSentAsTheyAre(t *testing.T) {
	w := newWorld(t, oauthtest.Config{})
	s := w.source()
	w.login(s, "ann")
	var got io.ReadCloser
	w.base = withAPI(func(_ int, r *http.Request) (*http.Response, error) {
		got = r.Body
		return nil, errors.New("never mind")
	})
	for name, tt := range map[string]struct {
		body io.Reader
		same bool
	}{
		"bytes.Buffer":   {strings.NewReader("a"), true},
		"in a NopCloser": {io.NopCloser(io.LimitReader(strings.NewReader("a"), 1)), false},
		"of a client":    {&sharedBody{Reader: strings.NewReader("a")}, false},
	} {
		req := newRequest(t, "POST", w.srv.APIURL(), tt.body)
		if req.GetBody == nil {
			req.GetBody = func() (io.ReadCloser, error) { return nil, errors.New("not called") }
		}
		w.client(s).Transport.RoundTrip(req)
		if (got == req.Body) != tt.same {
			t.Errorf("%s: sent as it is: %v", name, got == req.Body)
		}
	}
}
