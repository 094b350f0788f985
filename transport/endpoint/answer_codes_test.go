package endpoint

import (
	"errors"
	"testing"

	"github.com/stayauth/stayauth/transport"
	"github.com/stayauth/stayauth/transport/internal/testkit"
)

// A program can say what its provider's errors mean; that goes before what is built in.
func TestCodes(t *testing.T) {
	codes := map[string]transport.Kind{
		"session_ended":       transport.ErrLoginRequired,
		"invalid_grant":       transport.ErrUnavailable,
		"try again":           transport.ErrUnavailable,
		"try again, with MFA": transport.ErrLoginRequired,
		"quota":               transport.ErrAmbiguous,
		"blocked":             transport.ErrMisconfigured,
	}
	for _, c := range []struct {
		status int
		body   string
		want   string
	}{
		{400, `{"error":"session_ended"}`, "LOGIN REQUIRED 400 session_ended"},
		{400, `{"error":"Session_Ended"}`, "LOGIN REQUIRED 400 Session_Ended"},
		{400, `{"error":"session_ended_2"}`, "MISCONFIGURED 400 session_ended_2 [look the error code up in the provider's documentation]"},
		{401, `{"error":{"type":"x","code":"session_ended"}}`, "LOGIN REQUIRED 401 session_ended"},
		{401, `{"error":{"type":"session_ended","code":"x"}}`, "LOGIN REQUIRED 401 session_ended"},
		{400, `{"errors":[{"errorType":"x"},{"errorType":"session_ended"}]}`, "LOGIN REQUIRED 400 session_ended"},
		{400, `{"error_code":"session_ended","msg":"gone"}`, `LOGIN REQUIRED 400 session_ended "gone"`},
		{500, `{"error":"session_ended"}`, "LOGIN REQUIRED 500 session_ended"},
		{200, `{"ok":false,"error":"session_ended"}`, "LOGIN REQUIRED 200 session_ended"},
		{400, `{"error":"invalid_grant"}`, "PROVIDER UNAVAILABLE 400 invalid_grant"},
		{400, `{"error":"x","error_description":"Please TRY AGAIN later"}`, `PROVIDER UNAVAILABLE 400 x "Please TRY AGAIN later"`},
		{400, `{"message":"Please try again, with mfa"}`, `LOGIN REQUIRED 400 "Please try again, with mfa"`},
		{400, `{"message":"quota"}`, `OUTCOME UNKNOWN 400 "quota"`},
		{403, `{"message":"blocked"}`, `MISCONFIGURED 403 "blocked" [look the error code up in the provider's documentation]`},
		{403, `<html>blocked`, "OUTCOME UNKNOWN 403 (the answer is not that of a token endpoint)"},
		{400, `{"error":"invalid_client"}`, "MISCONFIGURED 400 invalid_client field Endpoint.ClientID [check it, or set ClientSecret, ClientAuth or ClientCertificate if the client is not a public one: the provider does not accept the client]"},
		{200, `{"access_token":"new-access","message":"try again"}`, "access=new-access type=Bearer message=try again"},
	} {
		e := testEndpoint(testkit.Respond(c.status, c.body))
		e.Codes = codes
		if got := meaning(e.Refresh(t.Context(), testRecord())); got != c.want {
			t.Errorf("%d %s\ngot  %s\nwant %s", c.status, c.body, got, c.want)
		}
	}
}

// The same words to another grant are about something else: a token of the program's own
// that is refused, or a code.
func TestRefusedInOtherWordsIsForRefreshes(t *testing.T) {
	e := testEndpoint(testkit.Respond(400, `{"error":"invalid_request","error_description":"Refresh token is invalid."}`))
	if _, err := e.Exchange(t.Context(), "code", "", ""); !errors.Is(err, transport.ErrMisconfigured) {
		t.Errorf("exchange: %v", err)
	}
	e.Base = testkit.Respond(400, `{"error":"invalid_grant","error_description":"expired authorization code"}`)
	if _, err := e.Exchange(t.Context(), "code", "", ""); !errors.Is(err, transport.ErrLoginRequired) {
		t.Errorf("exchange of an expired code: %v", err)
	}
}
