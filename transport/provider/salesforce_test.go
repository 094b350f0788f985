package provider_test

import (
	"context"
	"errors"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stayauth/stayauth/transport"
	"github.com/stayauth/stayauth/transport/internal/testkit"
	"github.com/stayauth/stayauth/transport/provider"
)

// TestSalesforce: a token is good until the API says that its session has ended, which costs no
// call; it goes to the org's own address and to no other, even if that is Salesforce's too; and a
// service that logs in too often keeps its login.
func TestSalesforce(t *testing.T) {
	i := slices.IndexFunc(presets, func(p preset) bool { return p.name == "Salesforce" })
	synctest.Test(t, func(t *testing.T) {
		l := newLife(t, presets[i])
		l.answers("rotation")
		l.login()
		good := "salesforce-access-3"
		var seen []string
		api := testkit.RoundTripFunc(func(req *http.Request) (*http.Response, error) {
			token := strings.TrimPrefix(req.Header.Get("Authorization"), "Bearer ")
			seen = append(seen, req.URL.Host+" "+token)
			resp := &http.Response{StatusCode: 200, Header: http.Header{}, Body: http.NoBody, Request: req}
			if token != good {
				resp.StatusCode = 401
				resp.Header.Set("WWW-Authenticate", "Token")
				resp.Body = io.NopCloser(strings.NewReader(`[{"message":"Session expired or invalid","errorCode":"INVALID_SESSION_ID"}]`))
			}
			return resp, nil
		})
		rt, err := transport.New(transport.Config{Source: l.source, Origins: presets[i].make().Origins, Base: api})
		if err != nil {
			t.Fatal(err)
		}
		get := func(host string) int {
			t.Helper()
			resp, err := (&http.Client{Transport: rt}).Get("https://" + host + "/services/data")
			if err != nil {
				t.Fatal(err)
			}
			resp.Body.Close()
			return resp.StatusCode
		}
		time.Sleep(30 * day) // Nothing says when the token expires.
		get("example.my.salesforce.com")
		get("other.my.salesforce.com")
		good = "salesforce-access-2"
		l.answers("success")
		status := get("example.my.salesforce.com")
		want := []string{"example.my.salesforce.com salesforce-access-3", "other.my.salesforce.com ",
			"example.my.salesforce.com salesforce-access-3", "example.my.salesforce.com salesforce-access-2"}
		if status != 200 || !slices.Equal(seen, want) {
			t.Errorf("status %d, the APIs have seen %q", status, seen)
		}

		for _, next := range []struct{ trouble, answer, token string }{
			{"throttled", "rotation", "salesforce-access-3"},
			{"outage", "success", "salesforce-access-2"},
		} {
			time.Sleep(time.Hour)
			good = "none"
			l.answers(next.trouble)
			if status := get("example.my.salesforce.com"); status != 401 {
				t.Errorf("%s: status %d", next.trouble, status)
			}
			time.Sleep(time.Hour)
			l.answers(next.answer)
			good = next.token
			if status := get("example.my.salesforce.com"); status != 200 {
				t.Errorf("after %s: status %d", next.trouble, status)
			}
		}
		time.Sleep(time.Hour)
		good = "none"
		l.answers("revoked")
		tok := l.wantToken("salesforce-access-2")
		if _, err := l.source.Reject(t.Context(), tok); !errors.Is(err, transport.ErrLoginRequired) {
			t.Errorf("got %v", err)
		}
		if err := l.source.Close(context.Background()); err != nil {
			t.Error(err)
		}
	})
}

// Where the users of all orgs log in, nothing says which API a token is for: it is sent nowhere
// before the program has said so.
func TestSalesforceOfAllOrgs(t *testing.T) {
	for _, host := range []string{"login.salesforce.com", "https://test.salesforce.com", "LOGIN.salesforce.com"} {
		if p := provider.Salesforce(host); len(p.Origins) != 0 {
			t.Errorf("%s: tokens go to %v", host, p.Origins)
		}
	}
}
