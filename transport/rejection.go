package transport

import (
	"cmp"
	"io"
	"net/http"
	"strings"

	"github.com/stayauth/stayauth/transport/internal/claims"
)

// rejects reports whether resp is a rejection that a new access token can cure, and which
// claims the refresh has to ask for. A challenge that says invalid_token means it, whatever
// the status of the error (RFC 6750 section 3.1). A 401 may give any other reason, since
// servers have many words for "expired", or none, but not one of those that want something
// else from the client.
func rejects(resp *http.Response) (yes bool, demanded string) {
	if resp.StatusCode < 400 {
		return false, ""
	}
	invalid := false
	for _, c := range ParseChallenges(resp.Header) {
		switch c.Scheme {
		case "bearer", "dpop", "oauth":
			d := c.demands()
			if demanded = cmp.Or(demanded, d); d == "" && c.wantsMore() {
				return false, ""
			}
			invalid = invalid || c.code() == "invalid_token"
		}
	}
	if resp.StatusCode != http.StatusUnauthorized {
		return invalid, ""
	}
	return true, demanded
}

// demands returns the claims that a refresh has to ask for, so that the API takes the
// token that it brings: those of Microsoft's continuous access evaluation, by which an API
// refuses a token before its time. What wants a user to do something has none.
func (c Challenge) demands() string {
	switch c.code() {
	case "", "invalid_token", "insufficient_claims":
	default:
		return ""
	}
	demanded, err := claims.Merge(c.Claims(), "")
	if err != nil || len(demanded) > claims.MaxLen || c.Params["acr_values"] != "" || c.Params["max_age"] != "" {
		return ""
	}
	return demanded
}

func (c Challenge) code() string { return strings.ToLower(c.Params["error"]) }

// wantsMore reports whether the challenge wants what no refresh brings: more of the
// user or of the login, or another request.
func (c Challenge) wantsMore() bool {
	switch c.code() {
	case "insufficient_scope", "invalid_request", // RFC 6750 section 3.1
		"insufficient_user_authentication",     // RFC 9470 section 3
		"insufficient_claims",                  // Microsoft Entra
		"use_dpop_nonce", "invalid_dpop_proof": // RFC 9449 section 7.1 and 9
		return true
	}
	return c.Params["claims"] != "" || c.Params["acr_values"] != "" || c.Params["max_age"] != ""
}

// rejected is rejects, with what the program knows of the API.
func (t *Transport) rejected(req *http.Request, resp *http.Response) (yes bool, demanded string) {
	if yes, demanded = rejects(resp); yes {
		return true, demanded
	}
	if t.hook == nil || resp.StatusCode == http.StatusSwitchingProtocols { // whose body is a connection
		return false, ""
	}
	shown := *resp
	shown.Request = req
	peek := &peekedBody{body: resp.Body}
	shown.Body = peek
	yes = t.hook(&shown)
	if peek.read {
		resp.Body = &keptBody{body: resp.Body, data: peek.data, err: peek.err}
	}
	return yes, ""
}

// A peekedBody is the beginning of a body, which takes note of what is read.
type peekedBody struct {
	body io.Reader // nil: none
	read bool
	data []byte
	err  error
}

func (b *peekedBody) Read(p []byte) (int, error) {
	if b.body == nil || len(b.data) == maxKept {
		return 0, io.EOF
	}
	b.read = true
	n, err := b.body.Read(p[:min(len(p), maxKept-len(b.data))])
	b.data, b.err = append(b.data, p[:n]...), err
	return n, err
}

func (b *peekedBody) Close() error { return nil } // The body is the caller's.
