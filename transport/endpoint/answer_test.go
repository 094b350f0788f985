package endpoint

import (
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/oauth2"

	"github.com/stayauth/stayauth/tokencache"
	"github.com/stayauth/stayauth/transport"
	"github.com/stayauth/stayauth/transport/internal/testkit"
)

func testEndpoint(base http.RoundTripper) *Endpoint {
	return &Endpoint{TokenURL: "https://login.example.com/token", ClientID: "client", Base: base}
}

// testRecord is a login at testEndpoint.
func testRecord() *tokencache.Record {
	return &tokencache.Record{
		TokenURL:     "https://login.example.com/token",
		AccessToken:  "old-access",
		RefreshToken: "old-refresh",
	}
}

// TestResponses reads the answers in testdata/responses and those of the presets in
// testdata/providers, which have the shape of those of real providers, as answers to
// a refresh. meaning.txt says, one line for each, what must come of them (C04, C08).
func TestResponses(t *testing.T) {
	for _, dir := range []string{"../../testdata/responses", "../../testdata/providers"} {
		testkit.Meanings(t, dir, func(t *testing.T, wire []byte) (got string) {
			synctest.Test(t, func(t *testing.T) { // for its clock, which stands still
				e := testEndpoint(testkit.Replay(wire))
				e.ClientSecret, e.AuthStyle = "the client's own", oauth2.AuthStyleInHeader
				got = meaning(e.Refresh(t.Context(), testRecord()))
			})
			return got
		})
	}
}

// meaning tells all about the outcome of a refresh in one line.
func meaning(rec *tokencache.Record, err error) string {
	var parts []string
	add := func(format string, args ...any) { parts = append(parts, fmt.Sprintf(format, args...)) }
	if err != nil {
		e, ok := errors.AsType[*transport.Error](err)
		if !ok {
			return fmt.Sprintf("not an *Error: %T", err)
		}
		add("%s", strings.ToUpper(string(e.Kind)))
		add("%d", e.Status)
		if e.Code != "" {
			add("%s", e.Code)
		}
		if e.Description != "" {
			add("%q", e.Description)
		}
		if e.URI != "" {
			add("see %s", e.URI)
		}
		if e.Err != nil {
			add("(%v)", e.Err)
		}
		if e.Field != "" {
			add("field %s", e.Field)
		}
		if e.RetryAfter != 0 {
			add("retry after %v", e.RetryAfter)
		}
		if e.Remedy != "" && e.Kind != transport.ErrLoginRequired {
			add("[%s]", e.Remedy)
		}
	}
	if rec != nil {
		secret := func(what string, s tokencache.Secret) {
			if s != "" {
				add("%s=%s", what, string(s))
			}
		}
		secret("access", rec.AccessToken)
		secret("refresh", rec.RefreshToken)
		secret("id", rec.IDToken)
		add("type=%s", rec.TokenType)
		if rec.Scope != "" {
			add("scope=%q", rec.Scope)
		}
		after := func(what string, at time.Time) {
			if !at.IsZero() {
				add("%s=%v", what, at.Sub(rec.ObtainedAt))
			}
		}
		after("expires", rec.Expiry)
		after("refresh-at", rec.RefreshAt)
		after("refresh-expires", rec.RefreshExpiry)
		for _, name := range slices.Sorted(maps.Keys(rec.Extra)) {
			add("%s=%s", name, string(rec.Extra[name]))
		}
	}
	return strings.Join(parts, " ")
}

// TestTruncatedAnswer: an answer that is complete as JSON counts, even if the
// connection broke after it; a form may have lost its end.
func TestTruncatedAnswer(t *testing.T) {
	const head = "HTTP/1.1 200 OK\nContent-Length: 1000\n\n"
	for _, c := range []struct{ name, body, want string }{
		{"JSON, whole", `{"access_token":"new-access","refresh_token":"new-refresh"}`, "access=new-access refresh=new-refresh type=Bearer"},
		{"JSON, cut", `{"access_token":"new-access","refresh_token":"new-re`, "OUTCOME UNKNOWN 200 (unexpected EOF)"},
		{"form", `access_token=new-access&refresh_token=new-re`, "OUTCOME UNKNOWN 200 (unexpected EOF)"},
		{"too long", `{"x":"` + strings.Repeat("x", maxAnswer) + `","access_token":"new-access"}`, "OUTCOME UNKNOWN 200 (the answer is longer than 1 MiB)"},
	} {
		t.Run(c.name, func(t *testing.T) {
			wire := head + c.body
			if c.name == "too long" {
				wire = "HTTP/1.1 200 OK\n\n" + c.body
			}
			rec, err := testEndpoint(testkit.Replay([]byte(wire))).Refresh(t.Context(), testRecord())
			if got := meaning(rec, err); got != c.want {
				t.Errorf("got %s, want %s", got, c.want)
			}
			if e, ok := errors.AsType[*transport.Error](err); ok && !errors.Is(e.Err, io.ErrUnexpectedEOF) {
				t.Error("nobody can see that the end is missing")
			}
		})
	}
	// One that came whole is not asked for again at once: it will be no better.
	for _, body := range []string{"", "<html>", `{"status":0}`, `{"one":1`, "access=new-access"} {
		_, err := testEndpoint(testkit.Respond(200, body)).Refresh(t.Context(), testRecord())
		if e, ok := errors.AsType[*transport.Error](err); !ok || errors.Is(e.Err, io.ErrUnexpectedEOF) || e.Kind != transport.ErrAmbiguous || e.Status != 200 {
			t.Errorf("%q: got %#v", body, err)
		}
	}
}

// TestDecompressedAnswer: what is unpacked is as limited as what is read, and an answer
// whose compressed end is missing counts if its JSON is whole.
func TestDecompressedAnswer(t *testing.T) {
	const tokens = `{"access_token":"new-access","refresh_token":"new-refresh"}`
	for _, c := range []struct{ name, body, want string }{
		{"whole", testkit.Gzip(tokens), "access=new-access refresh=new-refresh type=Bearer"},
		{"without its end", strings.TrimSuffix(testkit.Gzip(tokens), testkit.Gzip(tokens)[len(testkit.Gzip(tokens))-8:]), "access=new-access refresh=new-refresh type=Bearer"},
		{"with something after it", testkit.Gzip(tokens) + "\n", "access=new-access refresh=new-refresh type=Bearer"},
		{"a form", testkit.Gzip("access_token=new-access"), "access=new-access type=Bearer"},
		{"a bomb", testkit.Gzip(`{"x":"` + strings.Repeat("x", 64*maxAnswer) + `","access_token":"a"}`), "OUTCOME UNKNOWN 200 (the answer is longer than 1 MiB)"},
		{"nothing else", "\x1f\x8b", "OUTCOME UNKNOWN 200 (the answer cannot be decompressed)"},
	} {
		t.Run(c.name, func(t *testing.T) {
			rec, err := testEndpoint(testkit.Respond(200, c.body)).Refresh(t.Context(), testRecord())
			if got := meaning(rec, err); got != c.want {
				t.Errorf("got %s, want %s", got, c.want)
			}
		})
	}
}

// TestEndlessAnswer: neither an endless nor a stalled answer holds anybody up.
func TestEndlessAnswer(t *testing.T) {
	t.Run("endless", func(t *testing.T) {
		e := testEndpoint(testkit.RoundTripFunc(func(req *http.Request) (*http.Response, error) {
			return &http.Response{StatusCode: 200, Body: io.NopCloser(endless{}), Request: req}, nil
		}))
		rec, err := e.Refresh(t.Context(), testRecord())
		if !errors.Is(err, transport.ErrAmbiguous) || rec != nil {
			t.Errorf("got %v, %v", rec, err)
		}
	})
	t.Run("stalled", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			e := testEndpoint(testkit.RoundTripFunc(func(req *http.Request) (*http.Response, error) {
				r, w := io.Pipe()
				go func() {
					w.Write([]byte(`{"access_token":`))
					<-req.Context().Done()
					w.CloseWithError(req.Context().Err())
				}()
				return &http.Response{StatusCode: 200, Body: r, Request: req}, nil
			}))
			start := time.Now()
			_, err := e.Refresh(t.Context(), testRecord())
			if !errors.Is(err, transport.ErrAmbiguous) || time.Since(start) != answerTimeout {
				t.Errorf("got %v after %v", err, time.Since(start))
			}
		})
	})
}

type endless struct{}

func (endless) Read(p []byte) (int, error) {
	clear(p)
	return len(p), nil
}
