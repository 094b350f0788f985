package login

import (
	"context"
	"io"
	"net/http"
	"net/http/cookiejar"
	"testing"
	"time"

	"github.com/stayauth/stayauth/testdata/realparts"
	"github.com/stayauth/stayauth/tokencache"
	"github.com/stayauth/stayauth/transport"
	"github.com/stayauth/stayauth/transport/provider"
)

// C110: a program that a certified server has never heard of registers itself there, and logs in by
// any port. After a restart it is the same client, whose login goes on.
func TestRealRegistration(t *testing.T) {
	as := realparts.OIDCProvider(t)
	p, err := provider.Discover(t.Context(), as.Issuer)
	if err != nil {
		t.Fatal(err)
	}
	p.Resource = as.API
	store := new(tokencache.Memory)
	// start is one run of the program, which finds an access token that has expired.
	start := func(user bool) (clientID string) {
		cache, err := tokencache.New(store, nil)
		if err != nil {
			t.Fatal(err)
		}
		client := provider.Client{Name: "Nobody's", Cache: cache}
		e, err := client.Endpoint(t.Context(), p, "api")
		if err != nil {
			t.Fatal(err)
		}
		source, err := transport.NewSource(transport.SourceConfig{Cache: cache, Refresher: e})
		if err != nil {
			t.Fatal(err)
		}
		defer source.Close(t.Context())
		if user {
			jar, _ := cookiejar.New(nil) // There is never an error.
			rec, err := Loopback(t.Context(), Config{Provider: p, Endpoint: e, Cache: cache, Out: io.Discard, Timeout: time.Minute,
				Open: func(_ context.Context, url string) error {
					go func() {
						if resp, err := (&http.Client{Jar: jar}).Get(url); err == nil {
							resp.Body.Close()
						}
					}()
					return nil
				}})
			if err != nil {
				t.Fatal(err)
			}
			rec.Expiry = time.Now()
			if err := source.Login(t.Context(), rec); err != nil {
				t.Fatal(err)
			}
		}
		rt, err := transport.New(transport.Config{Source: source, Origins: []string{as.Issuer}})
		if err != nil {
			t.Fatal(err)
		}
		resp, err := (&http.Client{Transport: rt}).Get(as.API)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if resp.StatusCode != http.StatusOK {
			t.Errorf("the API: %s", resp.Status)
		}
		return e.ClientID
	}
	first := start(true)
	if again := start(false); again != first || first == as.Public.ID {
		t.Errorf("the client was %s, and then %s", first, again)
	}
	if c := as.Counts(); c.Reuses != 0 || c.OK["refresh_token"] == 0 || c.OK["authorization_code"] != 1 {
		t.Errorf("the provider counted %+v", c)
	}
}
