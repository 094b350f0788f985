package transport_test

import (
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stayauth/stayauth/transport"
	"github.com/stayauth/stayauth/transport/oauthtest"
)

// A seekable body, such as generated clients send without a length, and its trace.
type seekable struct {
	*strings.Reader
	t      *testing.T
	closed int
	fails  bool
}

func (s *seekable) Read(p []byte) (int, error) {
	if s.closed > 0 {
		s.t.Error("read after Close")
	}
	return s.Reader.Read(p)
}

func (s *seekable) Seek(offset int64, whence int) (int64, error) {
	if s.fails && whence == io.SeekStart || s.closed > 0 {
		return 0, io.ErrNoProgress
	}
	return s.Reader.Seek(offset, whence)
}

func (s *seekable) Close() error { s.closed++; return nil }

// A body of unknown length that can seek is sent again from where it began, and closed
// once, when nobody sends it any more.
func TestABodyThatCanSeek(t *testing.T) {
	for _, tt := range []struct {
		name   string
		length int64
		fails  bool
		eager  bool // the API answers before it has read the body
		ours   bool // the program's own header: nothing is repeated
		want   int
	}{
		{"of unknown length", -1, false, false, false, 200},
		{"of a length that was forgotten", 0, false, false, false, 200},
		{"larger than is kept", 1 << 20, false, false, false, 200},
		{"that is still being sent", -1, false, true, false, 200},
		{"that cannot after all", -1, true, false, false, 401},
		{"of a request that is not ours", -1, false, false, true, 401},
	} {
		t.Run(tt.name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				w := newWorld(t, oauthtest.Config{})
				s := w.source()
				w.login(s, "ann")
				time.Sleep(time.Minute)
				sent := strings.Repeat("x", 1<<20)
				var sending io.ReadCloser
				w.base = withAPI(func(n int, r *http.Request) (*http.Response, error) {
					if n == 1 && tt.eager {
						sending = r.Body
						io.ReadFull(r.Body, make([]byte, 1000))
						resp, _ := unauthorized(strings.NewReader("no"))
						return resp, nil
					}
					b, err := io.ReadAll(r.Body)
					r.Body.Close()
					if !tt.ours {
						r.Body.Close() // as net/http may
					}
					if string(b) != sent || err != nil {
						t.Errorf("%d bytes arrived: %v", len(b), err)
					}
					if sending != nil {
						if n, err := sending.Read(make([]byte, 10)); n > 0 || err != transport.ErrRewound {
							t.Errorf("the first request is sent on: %d, %v", n, err)
						}
						sending.Close()
						sending.Close() // as net/http may
					}
					if n == 1 {
						resp, _ := unauthorized(strings.NewReader("no"))
						return resp, nil
					}
					return &http.Response{StatusCode: 200, Body: http.NoBody}, nil
				})
				body := &seekable{Reader: strings.NewReader("head" + sent), t: t, fails: tt.fails}
				body.Seek(4, io.SeekStart)
				if tt.fails {
					body.Reader = strings.NewReader(sent)
				}
				req := newRequest(t, "POST", w.srv.APIURL(), body)
				req.ContentLength = tt.length
				if tt.ours {
					req.Header.Set("Authorization", "Basic eA==")
				}
				resp, err := w.client(s).Transport.RoundTrip(req)
				if err != nil || resp.StatusCode != tt.want {
					t.Fatalf("%v, %v", resp, err)
				}
				resp.Body.Close()
				if body.closed != 1 {
					t.Errorf("closed %d times", body.closed)
				}
			})
		})
	}
}

// Files can seek; pipes only seem to.
func TestFilesAndPipesAsBodies(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newWorld(t, oauthtest.Config{})
		s := w.source()
		tokens := w.login(s, "ann")
		time.Sleep(time.Minute)
		name := filepath.Join(t.TempDir(), "body")
		if err := os.WriteFile(name, []byte("hello"), 0o600); err != nil {
			t.Fatal(err)
		}
		file, err := os.Open(name)
		if err != nil {
			t.Fatal(err)
		}
		w.srv.RevokeAccess(tokens.AccessToken)
		resp, err := w.client(s).Post(w.srv.APIURL(), "text/plain", file)
		if err != nil || resp.StatusCode != 200 {
			t.Errorf("%v, %v", resp, err)
		}
		resp.Body.Close()
		if file.Close() == nil {
			t.Error("the file was not closed")
		}
	})
	r, out, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	out.Close()
	if _, ok := transport.Rewindable(r); ok {
		t.Error("a pipe can be rewound")
	}
}

// A pending body begins with a byte, and whoever reads on waits until it is closed, as for the
// other side of a conversation.
type pending struct {
	begun  atomic.Bool
	closed chan struct{}
	once   sync.Once
}

func (p *pending) Read(b []byte) (int, error) {
	if !p.begun.Swap(true) {
		return copy(b, "x"), nil
	}
	<-p.closed
	return 0, io.ErrClosedPipe
}

func (p *pending) Seek(int64, int) (int64, error) { return 0, nil }

func (p *pending) Close() error {
	p.once.Do(func() { close(p.closed) })
	return nil
}

// A response that comes before the body has been read is not held back for the rest of it.
func TestAResponseBeforeTheEndOfABodyThatCanSeek(t *testing.T) {
	for _, tt := range []struct {
		name string
		want int
		most time.Duration
	}{
		{"accepts", 200, 0},
		{"rejects", 401, 5 * time.Second},
	} {
		t.Run(tt.name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				w := newWorld(t, oauthtest.Config{})
				s := w.source()
				w.login(s, "ann")
				time.Sleep(time.Minute)
				w.base = withAPI(func(n int, r *http.Request) (*http.Response, error) {
					go func() {
						io.Copy(io.Discard, r.Body)
						r.Body.Close()
					}()
					synctest.Wait() // until that waits
					if tt.want == 401 {
						resp, _ := unauthorized(strings.NewReader("no"))
						return resp, nil
					}
					return &http.Response{StatusCode: 200, Body: http.NoBody}, nil
				})
				body := &pending{closed: make(chan struct{})}
				defer body.Close()
				begun := time.Now()
				resp, err := w.client(s).Post(w.srv.APIURL(), "text/plain", body)
				if took := time.Since(begun); err != nil || resp.StatusCode != tt.want || took > tt.most {
					t.Fatalf("%v, %v after %v", resp, err, took)
				}
				resp.Body.Close()
			})
		})
	}
}
