package endpoint

import (
	"testing"
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
