package endpoint

import (
	"strings"
	"testing"

	"github.com/stayauth/stayauth/tokencache"
	"golang.org/x/oauth2"
)

// The scopes of a login and of the program itself are two things: nobody is there who
// could allow offline access, and some providers refuse a request for it.
func TestClientCredentialsDoNotAskForOfflineAccess(t *testing.T) {
	r := &recorder{status: 200, answer: `{"access_token":"a"}`}
	e := testEndpoint(r)
	e.Scopes = []string{"https://graph.example/.default", "offline_access"}
	rec, err := e.ClientCredentials().Refresh(t.Context(), nil)
	if err != nil || rec.Scope != "https://graph.example/.default" || r.forms[0].Get("scope") != "https://graph.example/.default" {
		t.Errorf("asked for %q, %v", r.forms[0].Get("scope"), err)
	}
	e.Scopes = []string{"offline_access"}
	if _, err := e.ClientCredentials().Refresh(t.Context(), nil); err != nil || r.forms[1].Has("scope") {
		t.Errorf("asked for %q, %v", r.forms[1].Get("scope"), err)
	}
}

// A client that acts for itself and has forgotten to prove who it is learns what to set, not that
// a secret is wrong.
func TestClientCredentialsWithoutProofSayWhatToSet(t *testing.T) {
	e := testEndpoint(&recorder{status: 401, answer: `{"error":"invalid_client"}`})
	for secret, want := range map[tokencache.Secret]string{
		"":  "set ClientSecret, ClientAuth or ClientCertificate",
		"s": "check ClientID, ClientSecret and AuthStyle",
	} {
		e := *e
		e.ClientSecret, e.AuthStyle = secret, oauth2.AuthStyleInHeader
		if _, err := e.ClientCredentials().Refresh(t.Context(), nil); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %q", err, want)
		}
	}
}
