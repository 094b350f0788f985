package provider_test

import (
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/stayauth/stayauth/transport/provider"
)

func slackAnswer(status int, contentType, body string) *http.Response {
	return &http.Response{StatusCode: status, Header: http.Header{"Content-Type": {contentType}}, Body: io.NopCloser(strings.NewReader(body))}
}

// TestSlackRejects: a message that mentions the error is none, and what has been done is not
// done again.
func TestSlackRejects(t *testing.T) {
	const asJSON = "application/json; charset=utf-8"
	for _, tt := range []struct {
		status            int
		contentType, body string
		want              bool
	}{
		{200, asJSON, `{"ok":false,"error":"token_expired"}`, true},
		{200, asJSON, `{"error":"invalid_auth","ok":false,"warning":"x"}`, true},
		{200, asJSON, `{"ok":false,"error":"token_revoked"}`, true},
		{200, asJSON, `{"ok":true,"error":"token_expired"}`, false},
		{200, asJSON, `{"error":"token_expired"}`, false},
		{200, asJSON, `{"ok":false,"error":"channel_not_found","response_metadata":{"error":"token_expired"}}`, false},
		{200, asJSON, `{"ok":true,"message":{"text":"\"error\":\"token_expired\"","error":"token_expired"}}`, false},
		{200, asJSON, `{"ok":false,"error":"token_expired"`, false},
		{200, asJSON, `["token_expired"]`, false},
		{200, "text/plain", `{"ok":false,"error":"token_expired"}`, false},
		{429, asJSON, `{"ok":false,"error":"token_expired"}`, false},
	} {
		if got := provider.SlackRejects(slackAnswer(tt.status, tt.contentType, tt.body)); got != tt.want {
			t.Errorf("%d %s %s: %v", tt.status, tt.contentType, tt.body, got)
		}
	}
}

func FuzzSlackRejects(f *testing.F) {
	f.Add(`{"ok":false,"error":"token_expired"}`)
	f.Add(`{"ok":true,"message":{"text":"token_expired"}}`)
	f.Fuzz(func(t *testing.T, body string) {
		rejects := provider.SlackRejects(slackAnswer(200, "application/json", body))
		var answer map[string]any
		if err := json.NewDecoder(strings.NewReader(body)).Decode(&answer); rejects && err != nil {
			t.Errorf("%q is no answer: %v", body, err)
		}
	})
}
