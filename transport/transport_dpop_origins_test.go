package transport_test

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/stayauth/stayauth/transport"
	"github.com/stayauth/stayauth/transport/oauthtest"
)

// A redirect gets a proof of its own if it leads to a listed origin, with the nonce of that one, and
// neither token nor proof if it leads anywhere else (C38, C43, C56, C58). The request of the
// program never has either.
func TestProofsOfRedirects(t *testing.T) {
	w := newBoundWorld(t, oauthtest.DPoP{})
	s := w.source()
	w.login(s, "ann")
	type sent struct{ host, scheme, method, url, nonce, id, body string }
	var all []sent
	w.base = roundTrip(func(r *http.Request) (*http.Response, error) {
		one := sent{host: r.URL.Host}
		one.scheme, _, _ = strings.Cut(r.Header.Get("Authorization"), " ")
		if r.Body != nil {
			body, _ := io.ReadAll(r.Body)
			one.body = string(body)
		}
		if proofs := r.Header.Values("DPoP"); len(proofs) > 0 {
			var claims struct{ JTI, HTM, HTU, Nonce string }
			raw, _ := base64.RawURLEncoding.DecodeString(strings.Split(proofs[0], ".")[1])
			json.Unmarshal(raw, &claims)
			one.method, one.url, one.nonce, one.id = claims.HTM, claims.HTU, claims.Nonce, claims.JTI
		}
		all = append(all, one)
		resp := &http.Response{StatusCode: http.StatusTemporaryRedirect, Body: http.NoBody, Request: r, Header: http.Header{}}
		resp.Header.Set("DPoP-Nonce", "of-"+r.URL.Host)
		switch r.URL.Host {
		case "one.test":
			resp.Header.Set("Location", "https://two.test/b?q")
		case "two.test":
			resp.Header.Set("Location", "https://elsewhere.test/c")
		default:
			resp.StatusCode = http.StatusOK
		}
		return resp, nil
	})
	rt, err := transport.New(transport.Config{Source: s, Origins: []string{"https://one.test", "https://two.test"}, Base: w.base})
	if err != nil {
		t.Fatal(err)
	}
	c, ids := &http.Client{Transport: rt}, map[string]bool{}
	for round := range 2 {
		all = nil
		req := newRequest(t, "POST", "https://one.test/a", strings.NewReader("a body"))
		resp, err := c.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		nonce := func(host string) string {
			if round == 0 {
				return ""
			}
			return "of-" + host
		}
		want := []sent{
			{"one.test", "DPoP", "POST", "https://one.test/a", nonce("one.test"), "", "a body"},
			{"two.test", "DPoP", "POST", "https://two.test/b", nonce("two.test"), "", "a body"},
			{"elsewhere.test", "", "", "", "", "", "a body"},
		}
		if len(all) != len(want) {
			t.Fatalf("sent %+v", all)
		}
		for i, one := range all {
			if one.id != "" {
				ids[one.id] = true
			}
			if one.id = ""; one != want[i] {
				t.Errorf("sent %+v, want %+v", one, want[i])
			}
		}
		for r := resp; r != nil; r = r.Request.Response {
			if h := r.Request.Header; h.Get("DPoP")+h.Get("Authorization") != "" {
				t.Error("a request of the program has " + fmt.Sprint(len(h)) + " headers more")
			}
		}
	}
	if len(ids) != 4 {
		t.Errorf("%d different proofs in 4 requests", len(ids))
	}
}
