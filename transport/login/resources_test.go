package login

import (
	"context"
	"errors"
	"net/url"
	"testing"

	"github.com/stayauth/stayauth/tokencache"
	"github.com/stayauth/stayauth/transport"
	"github.com/stayauth/stayauth/transport/oauthtest"
)

// A login remembers which resources it has asked for (RFC 8707 section 2), by whichever way it was
// made, so that no refresh asks for another one. What the Endpoint says anyway is not repeated.
func TestALoginKnowsItsResources(t *testing.T) {
	const files, mail, user = "https://files.test", "https://mail.test", "https://user.test"
	ways := map[string]func(w *world) (*tokencache.Record, error){
		"loopback": func(w *world) (*tokencache.Record, error) {
			w.cfg.Open = func(_ context.Context, u string) error { go browse(u); return nil }
			return Loopback(w.t.Context(), w.cfg)
		},
		"pushed": func(w *world) (*tokencache.Record, error) {
			w.cfg.Open = func(_ context.Context, u string) error { go browse(u); return nil }
			w.cfg.PAR = true
			return Loopback(w.t.Context(), w.cfg)
		},
		"paste": func(w *world) (*tokencache.Record, error) {
			w.user(func(u *url.URL) string { return u.String() + "\n" })
			return Paste(w.t.Context(), w.cfg)
		},
	}
	for way, login := range ways {
		t.Run(way, func(t *testing.T) {
			w := newWorld(t, oauthtest.Config{Policy: oauthtest.StrictFamily, Resources: []string{files, mail, user}})
			w.cfg.Endpoint.Params = url.Values{"resource": {files}}
			w.cfg.AuthParams = url.Values{"resource": {files, mail}}
			rec, err := login(w)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := w.cfg.Endpoint.For(url.Values{"resource": {mail}}).Refresh(t.Context(), rec); err != nil {
				t.Error(err)
			}
			if _, err := w.cfg.Endpoint.For(url.Values{"resource": {user}}).Refresh(t.Context(), rec); !errors.Is(err, transport.ErrLoginRequired) {
				t.Errorf("%v: got a token for a resource that was not asked for", err)
			}
			if n := w.srv.Counts(); n.TokenRequests != 2 || n.Rotations != 1 {
				t.Errorf("%+v", n)
			}
		})
	}
	w := newWorld(t, oauthtest.Config{})
	w.cfg.Endpoint.Params = url.Values{"resource": {files}}
	if rec, err := ways["loopback"](w); err != nil || rec.Extra["login.asked"] != "" {
		t.Errorf("%v, %v", rec, err)
	}
}
