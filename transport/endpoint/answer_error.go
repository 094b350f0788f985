package endpoint

import (
	"cmp"
	"encoding/json"
	"errors"
	"net/url"
	"slices"
	"strings"

	"github.com/stayauth/stayauth/transport"
	"github.com/stayauth/stayauth/transport/internal/claims"
	"github.com/stayauth/stayauth/transport/internal/neterror"
)

// oauthError returns the error code and description of an answer (RFC 6749 section 5.2), or
// what some providers send instead. If there are several codes, it prefers one that is known.
func (a *answer) oauthError() (code, description string) {
	m := a.members
	description = m.text("error_description")
	var codes []string // from the places where a code is expected
	if c := m.text("error"); c != "false" && c != "0" {
		codes = append(codes, c)
	}
	for _, o := range append([]members{m.object("error")}, m.objects("errors")...) { // Fitbit has several.
		kind, c := o.text("type"), o.text("code")
		if kind == "OAuthException" { // Facebook numbers its errors.
			kind, c = kind+" "+c, ""
		} else if c != "" && c[0] <= '9' { // an HTTP status
			c = ""
		}
		codes = append(codes, c, o.text("errorType"), o.text("error"), kind)
		description = cmp.Or(description, o.text("error_description"), o.text("message"))
	}
	for _, name := range []string{"code", "error_code", "errorCode", "errorType", "status"} {
		if c := m.text(name); a.knows(c) { // These may be about anything. HubSpot has the code in the last.
			codes = append(codes, c)
		}
	}
	description = cmp.Or(description, m.text("message"), m.text("msg"))
	for _, name := range []string{"error_subtype", "suberror"} { // Google, Entra
		if sub := m.text(name); sub != "" && !strings.Contains(description, sub) {
			description = strings.TrimSpace(description + " (" + sub + ")")
		}
	}
	if i := slices.IndexFunc(codes, a.knows); i >= 0 {
		return codes[i], description
	}
	return cmp.Or(codes...), description
}

// knows reports whether the meaning of an error code is known.
func (a *answer) knows(code string) bool {
	_, own := a.codes.kind(code, "")
	_, known := codeMeaning(code)
	return code != "" && (own || known)
}

// interaction returns the error code that says what Entra has in suberror, if it wants the user
// for a token; its error is an invalid_grant, although the refresh token is good for other ones.
func (a *answer) interaction() string {
	switch sub := a.members.text("suberror"); sub {
	case "consent_required":
		return sub
	case "basic_action", "additional_action", "message_only":
		return "interaction_required"
	}
	return ""
}

// errorURI returns the URL of a page about the error, if it can be shown.
func (a *answer) errorURI() string {
	raw := a.members.text("error_uri")
	u, err := url.Parse(raw)
	if err != nil || u.Scheme != "https" && u.Scheme != "http" || u.Host == "" || u.User != nil || a.clean(raw) != raw {
		return ""
	}
	return raw
}

// claims returns the claims that the next login has to ask for, as Microsoft Entra sends
// them with interaction_required.
func (a *answer) claims() string {
	raw := a.members.text("claims")
	if all, err := claims.Merge(raw, ""); err != nil || len(all) > claims.MaxLen || a.shows(all) {
		return ""
	}
	return raw
}

// objects returns the objects in a member that is an array.
func (m members) objects(name string) (objects []members) {
	var elements []json.RawMessage
	if json.Unmarshal(m[name], &elements) != nil {
		return nil
	}
	for _, e := range elements {
		objects = append(objects, members{"": e}.object(""))
	}
	return objects
}

// endpointError says which field of an Endpoint is wrong.
func endpointError(field, remedy string) *transport.Error {
	return &transport.Error{Kind: transport.ErrMisconfigured, Op: "config", Field: "Endpoint." + field, Remedy: remedy}
}

// notSent is the error of a request that could not be made, because of something on this
// machine or a key service: it says nothing about the login. A key service may have a login of
// its own, and that is not this one.
func notSent(op, field string, cause error) error {
	failed, ok := errors.AsType[*transport.Error](cause)
	if ok && failed.Kind == transport.ErrLoginRequired {
		cause, ok = errors.New(failed.Error()), false
	}
	if !ok {
		failed = &transport.Error{Field: "Endpoint." + field, Err: cause, Remedy: "nothing was sent: what the request needs could not be made"}
	}
	told := *failed
	told.Err = neterror.Unquoted(told.Err)
	told.Field = cmp.Or(told.Field, "Endpoint."+field) // It says that the provider was not asked.
	if told.Op = op; told.Kind != transport.ErrMisconfigured {
		told.Kind = transport.ErrUnavailable
	}
	return &told
}
