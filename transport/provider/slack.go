package provider

import (
	"encoding/json"
	"net/http"
	"slices"
	"strings"
)

// SlackRejects reports whether Slack rejects the token of a request, which it says with a 200 and
// {"ok":false,"error":"token_expired"}. It is for transport.Config.Rejected, which has the token
// renewed and the request repeated then.
//
// Not confirmed in Slack's documentation: that a method that has taken effect never says so.
func SlackRejects(resp *http.Response) bool {
	if resp.StatusCode != http.StatusOK || !strings.HasPrefix(resp.Header.Get("Content-Type"), "application/json") {
		return false
	}
	var answer struct {
		OK    *bool
		Error string
	}
	return json.NewDecoder(resp.Body).Decode(&answer) == nil && answer.OK != nil && !*answer.OK &&
		slices.Contains([]string{"token_expired", "token_revoked", "invalid_auth"}, answer.Error)
}
