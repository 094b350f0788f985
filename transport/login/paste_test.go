package login

import (
	"context"
	"io"
	"net/url"
	"strings"
	"testing"

	"github.com/stayauth/stayauth/transport"
	"github.com/stayauth/stayauth/transport/oauthtest"
)

// user pastes what paste makes of the provider's answer.
func (w *world) user(paste func(answer *url.URL) string) {
	r, in := io.Pipe()
	w.t.Cleanup(func() { in.Close() })
	w.cfg.In = r
	w.cfg.OnPrompt = func(p Prompt) {
		answer := answerTo(w.t, p.URL, redirectURIOf(w.t, p.URL).String())
		go io.WriteString(in, paste(answer))
	}
}

func TestPaste(t *testing.T) {
	tests := []struct {
		name  string
		paste func(*url.URL) string
	}{
		{"address", func(u *url.URL) string { return u.String() + "\n" }},
		{"spaces and quotes", func(u *url.URL) string { return "\n  '" + u.String() + "#'  \r\n" }},
		{"parameters only", func(u *url.URL) string { return u.RawQuery + "\n" }},
		{"not at once", func(u *url.URL) string {
			return "what?\n" + with(u, "state", "other") + "\n%zz\n" + u.Query().Get("code") + "\n" + u.String() + "\n"
		}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			w := newWorld(t, oauthtest.Config{})
			w.user(tt.paste)
			w.cfg.Open = func(context.Context, string) error { t.Error("a browser was opened"); return nil }
			rec, err := Paste(t.Context(), w.cfg)
			w.wantLogin(rec, err)
			told := strings.Count(w.out.String(), "That is not the address")
			if want := map[bool]int{true: 4}[tt.name == "not at once"]; told != want {
				t.Errorf("the user was told %d times that it is wrong, want %d:\n%s", told, want, w.out)
			}
		})
	}
}

// What the user enters after the address is not read: it is for the program.
func TestPasteReadsNoMore(t *testing.T) {
	w := newWorld(t, oauthtest.Config{})
	var read int
	w.user(func(u *url.URL) string { return u.String() + "\n" })
	in := w.cfg.In
	w.cfg.In = readerFunc(func(p []byte) (int, error) { read++; return in.Read(p) })
	rec, err := Paste(t.Context(), w.cfg)
	w.wantLogin(rec, err)
	if read != 1 {
		t.Errorf("%d reads, want 1", read)
	}
}

type readerFunc func([]byte) (int, error)

func (f readerFunc) Read(p []byte) (int, error) { return f(p) }

func TestPasteRefuses(t *testing.T) {
	tests := []struct {
		name  string
		paste func(*url.URL) string
		kind  transport.Kind
		says  string
	}{
		{"refused", func(u *url.URL) string { return with(u, "code", "", "error", "access_denied") + "\n" },
			transport.ErrLoginRequired, "access_denied"},
		{"other issuer", func(u *url.URL) string { return with(u, "iss", "https://evil.example") + "\n" },
			transport.ErrMisconfigured, "another issuer"},
		{"no issuer", func(u *url.URL) string { return with(u, "iss", "") + "\n" },
			transport.ErrMisconfigured, "does not say which issuer"},
		{"twice", func(u *url.URL) string { return u.String() + "&code=other\n" },
			transport.ErrMisconfigured, "code twice"},
		{"endless", func(u *url.URL) string { return u.String() + strings.Repeat("x", maxLine) + "\n" },
			transport.ErrLoginRequired, "input ended"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			w := newWorld(t, oauthtest.Config{})
			w.user(tt.paste)
			_, err := Paste(t.Context(), w.cfg)
			w.wantError(err, tt.kind, tt.says)
			if n := w.srv.Counts().TokenRequests; n != 0 {
				t.Errorf("%d requests came to the token endpoint", n)
			}
		})
	}
}

func TestPasteEnds(t *testing.T) {
	w := newWorld(t, oauthtest.Config{})
	w.cfg.In = strings.NewReader("")
	_, err := Paste(t.Context(), w.cfg)
	w.wantError(err, transport.ErrLoginRequired, "input ended")

	r, in := io.Pipe()
	defer in.Close()
	w.cfg.In = r
	ctx, cancel := context.WithCancel(t.Context())
	w.cfg.OnPrompt = func(Prompt) { cancel() }
	_, err = Paste(ctx, w.cfg)
	w.wantError(err, transport.ErrLoginRequired, "canceled")
}

func FuzzPasted(f *testing.F) {
	f.Add("http://127.0.0.1:9/callback?code=a&state=b&iss=c#frag")
	f.Add("'code=a&state=b'")
	f.Add("?%zz")
	f.Fuzz(func(t *testing.T, line string) {
		params := pasted(line)
		if again := pasted("<" + params.Encode() + ">"); params.Encode() != again.Encode() {
			t.Errorf("%q is %v, and that is %v", line, params, again)
		}
	})
}
