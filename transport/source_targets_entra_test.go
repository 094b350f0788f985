package transport_test

import (
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/stayauth/stayauth/tokencache"
	"github.com/stayauth/stayauth/transport"
	"github.com/stayauth/stayauth/transport/endpoint"
	"github.com/stayauth/stayauth/transport/internal/testkit"
)

// entra answers refreshes as Microsoft documents it: the scopes say for which API the token is, all
// of one API; without scopes it is for that of the login; and each answer has a new refresh token
// if offline_access was asked for, beside which the old one stays good.
type entra struct{ asked []string }

func (e *entra) RoundTrip(req *http.Request) (*http.Response, error) {
	if err := req.ParseForm(); err != nil {
		return nil, err
	}
	if req.Method == http.MethodHead {
		return testkit.Respond(405, "").RoundTrip(req)
	}
	scope := req.PostForm.Get("scope")
	e.asked = append(e.asked, scope)
	for _, s := range strings.Fields(scope) {
		if strings.HasPrefix(s, "api://unknown/") {
			return testkit.Respond(400, `{"error":"invalid_grant","error_description":"AADSTS65001: The user or administrator has not consented to use the application with ID '0'. Send an interactive authorization request for this user and resource. Trace ID: 1 Correlation ID: 2 Timestamp: 2026-01-01 00:00:00Z","error_codes":[65001],"timestamp":"2026-01-01 00:00:00Z","trace_id":"1","correlation_id":"2","suberror":"consent_required"}`).RoundTrip(req)
		}
	}
	granted, refresh := "https://graph.microsoft.com/User.Read", ""
	if scope != "" {
		granted = strings.ReplaceAll(strings.TrimSuffix(scope, " offline_access"), ".default", "Files.Read")
	}
	if scope == "" || strings.HasSuffix(scope, " offline_access") {
		refresh = fmt.Sprintf(`,"refresh_token":"rt-%d"`, len(e.asked))
	}
	return testkit.Respond(200, fmt.Sprintf(`{"token_type":"Bearer","scope":%q,"expires_in":3599,"ext_expires_in":3599,"access_token":"at-%d"%s}`, granted, len(e.asked), refresh)).RoundTrip(req)
}

// C33: a login at Entra is good for several APIs, whose scopes cannot be asked for together. One
// for which the user has not consented needs a login, and the others go on.
func TestTargetsAtEntra(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := newWorld(t, defaultServer)
		as := new(entra)
		source := func(scope string) *transport.Source {
			return w.source(func(cfg *transport.SourceConfig) {
				e := &endpoint.Endpoint{TokenURL: "https://login.test/token", ClientID: "client", Base: as,
					Scopes: []string{"https://graph.microsoft.com/User.Read", "offline_access"}}
				if cfg.Refresher = e; scope != "" {
					cfg.Refresher = e.For(url.Values{"scope": {scope}})
				}
			})
		}
		graph, files, unknown := source(""), source("api://files/.default"), source("api://unknown/.default")
		login := &tokencache.Record{TokenURL: "https://login.test/token", AccessToken: "at-0", RefreshToken: "rt-0", Scope: "https://graph.microsoft.com/User.Read", ObtainedAt: transport.WallNow(), Expiry: transport.WallNow().Add(time.Hour)}
		if err := graph.Login(t.Context(), login); err != nil {
			t.Fatal(err)
		}
		mustToken(t, graph, "at-0")
		mustToken(t, files, "at-1")
		if tok, err := files.Token(t.Context()); err != nil || tok.Scope != "api://files/Files.Read" {
			t.Errorf("%v, %v", tok, err)
		}
		for range 3 {
			_, err := unknown.Token(t.Context())
			if e, ok := errors.AsType[*transport.Error](err); !ok || e.Kind != transport.ErrLoginRequired || e.Code != "consent_required" {
				t.Errorf("got %v", err)
			}
			time.Sleep(time.Minute)
		}
		mustToken(t, source("api://files/.default"), "at-1") // another process
		time.Sleep(time.Hour)
		mustToken(t, graph, "at-3")
		mustToken(t, files, "at-4")
		if rec := w.stored(graph); rec.RefreshToken != "rt-4" || rec.AccessToken != "at-3" || rec.Scope != login.Scope {
			t.Errorf("stored %v", rec)
		}
		if got, want := strings.Join(as.asked, ","), "api://files/.default offline_access,api://unknown/.default offline_access,,api://files/.default offline_access"; got != want {
			t.Errorf("asked for %s, want %s", got, want)
		}
	})
}
