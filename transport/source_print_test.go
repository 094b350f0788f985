package transport_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stayauth/stayauth/tokencache"
	"github.com/stayauth/stayauth/transport"
	"github.com/stayauth/stayauth/transport/endpoint"
	"github.com/stayauth/stayauth/transport/oauthtest"
)

// Nothing that this package exports shows a secret, however it is printed and
// whatever state it is in (C10).
func TestNothingPrintsASecret(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newWorld(t, oauthtest.Config{Policy: oauthtest.StrictFamily, Scope: "api openid"})
		store := &troubled{Memory: new(tokencache.Memory)}
		w.store = store
		s := w.source()
		w.login(s, "ann")
		values := map[string]any{}
		note := func(name string, v any) { values[name] = v }

		time.Sleep(2 * time.Hour)
		tok, err := s.Token(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		note("Token", tok)
		rt, err := transport.New(transport.Config{Source: s, Origins: []string{w.srv.APIOrigin()}, Base: w.base})
		if err != nil {
			t.Fatal(err)
		}
		note("Transport", rt)
		note("http.Client", &http.Client{Transport: rt})
		note("Config", transport.Config{Source: s})
		pool, c := w.pool(1)
		w.login(pool.Source("bob"), "bob")
		note("Pool", pool)
		note("PoolConfig", transport.PoolConfig{Source: *pool.Cfg()})
		note("Transport of a Pool", c.Transport)
		note("SourceConfig", s.Cfg())
		note("Endpoint", w.endpoint())
		note("Endpoint value", *w.endpoint())
		note("ClientCredentials", w.endpoint().ClientCredentials())
		note("FromTokenSource", endpoint.FromTokenSource(s.OAuth2()))
		note("TokenSource", s.OAuth2())
		note("Record", w.stored(s))
		note("Record value", *w.stored(s))

		n := store.n.Load() + 1
		store.fail(func(op string, i int32) error {
			if op == "save" && i > n {
				return tokencache.ErrUnavailable
			}
			return nil
		})
		time.Sleep(2 * time.Hour)
		if _, err := s.Token(t.Context()); err != nil {
			t.Fatal(err)
		}
		unsaved := w.source(func(c *transport.SourceConfig) { c.Timeout = time.Second })
		_, err = unsaved.Token(t.Context())
		note("Error, busy", err)
		st, err := s.Status(t.Context())
		if err != nil || st.State != transport.StateUnsaved {
			t.Fatalf("%v, %v", st.State, err)
		}
		note("Status, unsaved", st)
		note("Error, unsaved", s.Flush(t.Context()))
		note("Source, unsaved", s)
		store.heal()
		time.Sleep(time.Minute)

		// A provider that repeats in its error what it was sent.
		for i, text := range []string{w.srv.Current("ann").RefreshToken, w.srv.ClientSecret()} {
			body, _ := json.Marshal(map[string]string{"error": "server_error", "error_description": "no: " + text})
			w.srv.Fault("/token", 1, oauthtest.Answer(400, "application/json", string(body)))
			_, err := w.endpoint().Refresh(t.Context(), w.stored(s))
			note(fmt.Sprint("Error, echo ", i), err)
		}
		dead := w.source()
		w.srv.RevokeFamily(w.srv.Current("ann").RefreshToken)
		time.Sleep(2 * time.Hour)
		_, err = dead.Token(t.Context())
		if !errors.Is(err, transport.ErrLoginRequired) {
			t.Fatal(err)
		}
		note("Error, dead", err)
		note("Source, dead", dead)
		note("Record, dead", w.stored(s))
		w.mu.Lock()
		note("Events", w.events)
		w.mu.Unlock()

		synctest.Wait() // Some verbs read what is not exported, and no lock keeps them from it.
		secrets := append(w.srv.Secrets(), string(tok.AccessToken))
		for name, v := range values {
			if v == nil {
				t.Errorf("%s: no value", name)
			}
			printed := map[string]string{}
			for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "%d", "%t", "%T"} {
				printed[verb] = fmt.Sprintf(verb, v)
				printed[verb+" in an exported field"] = fmt.Sprintf(verb, struct{ X any }{v})
				printed[verb+" in a slice"] = fmt.Sprintf(verb, []any{v})
				printed[verb+" behind a pointer"] = fmt.Sprintf(verb, &v)
			}
			if b, err := json.Marshal(v); err == nil {
				printed["json"] = string(b)
			}
			var log bytes.Buffer
			slog.New(slog.NewTextHandler(&log, nil)).Info("x", "v", v)
			slog.New(slog.NewJSONHandler(&log, nil)).Info("x", "v", v)
			printed["slog"] = log.String()
			for how, text := range printed {
				for _, secret := range secrets {
					for _, form := range []string{secret, fmt.Sprintf("%x", secret), fmt.Sprintf("%X", secret), fmt.Sprintf("%d", []byte(secret))} {
						if bytes.Contains([]byte(text), []byte(form)) {
							t.Fatalf("%s, printed with %s, shows a secret", name, how)
						}
					}
				}
			}
		}
	})
}
