package main

import (
	"bytes"
	"context"
	"net/http"
	"net/http/cookiejar"
	"strings"
	"testing"
	"time"

	"github.com/stayauth/stayauth/testdata/realparts"
)

// The program against a server that nobody here wrote: one login, two runs, and
// every token request a renewal.
func TestCertifiedProvider(t *testing.T) {
	// The server counts in whole seconds, so tokens live up to a second less.
	p := realparts.OIDCProvider(t, "--login=auto", "--access-token-ttl=6")
	o := private(t)
	o.issuer, o.clientID, o.scopes = p.Issuer, p.Public.ID, []string{"openid", "offline_access"}
	o.url, o.every = p.API, 20*time.Millisecond
	logins := 0
	for run := range 2 {
		ctx, ctrlC := context.WithTimeout(t.Context(), time.Minute)
		defer ctrlC()
		var out bytes.Buffer
		tl := plainTimeline(writerFunc(func(b []byte) (int, error) {
			out.Write(b)
			if strings.Contains(out.String(), "renewed, generation") {
				ctrlC()
			}
			return len(b), nil
		}))
		err := stayLoggedIn(ctx, o, tl, func(ctx context.Context, url string) error {
			logins++
			jar, err := cookiejar.New(nil)
			if err != nil {
				return err
			}
			go (&http.Client{Jar: jar}).Get(url)
			return nil
		})
		t.Logf("run %d:\n%s", run+1, &out)
		if err != nil {
			t.Fatal(err)
		}
	}
	if c := p.Counts(); logins != 1 || c.Reuses != 0 || c.OK["refresh_token"] < 2 {
		t.Errorf("%d logins, and the provider counted %+v", logins, c)
	}
}
