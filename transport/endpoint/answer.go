package endpoint

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"errors"
	"io"
	"maps"
	"mime"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/stayauth/stayauth/transport/internal/text"
)

const (
	maxAnswer      = 1 << 20          // bytes; answers of a few KiB are usual
	requestTimeout = 15 * time.Second // for what may be sent twice, and for getting a request sent
)

const (
	formType = "application/x-www-form-urlencoded"
	jsonType = "application/json"
)

// An answer is the answer of a token or revocation endpoint.
type answer struct {
	op         string
	status     int
	header     http.Header
	redirect   string  // the host that a redirect points to, if it is one
	members    members // nil if the body was not understood
	incomplete error   // a truncation, if the end of the body is missing
	sentAt, at time.Time
	sent       []string // the secrets of the request
	public     bool     // nothing has said who the client is, but its ClientID
	proven     bool     // a ClientAuth has said who the client is
	presented  bool     // there was a certificate of the client
	certified  bool     // and nothing else has said so
	aliased    bool     // it was sent to an alias of the endpoint
	other      bool     // the request was for what may be no access token
	stated     bool     // the grant was a statement (RFC 7523 section 2.1)
	bound      bool     // the request had a proof of possession
	unbound    bool     // it had none, although new logins have
	aged       bool     // which may have been too old when it was read
	misdated   bool     // both had a wrong date
	late       bool     // both may have expired before the provider read them
	codes      codeTable
	obtained   func() // tells Base that there were tokens in it
}

// parse reads the body. Providers are not strict about types: GitHub sends forms unless asked
// not to, others send JSON as text/plain, and some a byte order mark. A proxy may compress an
// answer and lose the header that says so, or append to it.
func (a *answer) parse(body []byte) {
	if bytes.HasPrefix(body, []byte("\x1f\x8b")) { // gzip; neither JSON nor a form begins so.
		body = a.unpack(body)
	}
	body = bytes.TrimSpace(bytes.TrimPrefix(body, []byte("\xef\xbb\xbf")))
	if bytes.HasPrefix(body, []byte("{")) {
		// If the first value parses, it is complete, whatever follows and whatever
		// became of the connection after it: to ask again could cost the login.
		if json.NewDecoder(bytes.NewReader(body)).Decode(&a.members) != nil {
			a.members = nil
		}
	} else if a.incomplete == nil {
		a.members = parseForm(body)
	}
	a.members = a.members.unwrap()
}

// unpack decompresses a body, up to the same limit as for any other.
func (a *answer) unpack(body []byte) []byte {
	r, err := gzip.NewReader(bytes.NewReader(body))
	var plain []byte
	if err == nil {
		plain, err = io.ReadAll(io.LimitReader(r, maxAnswer+1))
	}
	switch {
	case a.incomplete != nil:
	case err != nil:
		a.incomplete = truncation{errors.New("the answer cannot be decompressed")}
	case len(plain) > maxAnswer:
		a.incomplete = errTooLong
	}
	return plain
}

// A truncation says why the end of an answer is missing. Whatever the reason, it wraps
// io.ErrUnexpectedEOF, see Refresher.
type truncation struct{ error }

func (t truncation) Unwrap() []error { return []error{io.ErrUnexpectedEOF, t.error} }

var errTooLong = truncation{errors.New("the answer is longer than 1 MiB")}

// unwrap returns m; if it has no access token, then with the members of the only object in it
// that has one: Slack's "authed_user", Withings's "body", the "data" of others.
func (m members) unwrap() members {
	if m.token("access_token") != "" {
		return m
	}
	var wrapper string
	var inner members
	for name := range m {
		if o := m.object(name); o.token("access_token") != "" {
			if inner != nil {
				return m // Which of them is meant is anybody's guess.
			}
			wrapper, inner = name, o
		}
	}
	if inner != nil {
		delete(m, wrapper)
		maps.Copy(m, inner)
	}
	return m
}

// parseForm reads a form-encoded answer, and returns nil for anything else: a
// page of HTML can look like a form with odd names.
func parseForm(body []byte) members {
	form, err := url.ParseQuery(string(body))
	if err != nil || !form.Has("access_token") && !form.Has("refresh_token") && !form.Has("error") {
		return nil
	}
	m := members{}
	for name := range form {
		m[name], _ = json.Marshal(form.Get(name)) // Strings can always be encoded.
	}
	return m
}

// mediaType returns the media type that the answer claims to have.
func (a *answer) mediaType() string {
	t, _, _ := mime.ParseMediaType(a.header.Get("Content-Type"))
	return t
}

// members are the members of a JSON object. Their types cannot be trusted.
type members map[string]json.RawMessage

// text returns a string as it is, a number or boolean as it was written, and "" for anything
// else.
func (m members) text(name string) string {
	raw := bytes.TrimSpace(m[name])
	if len(raw) == 0 {
		return ""
	}
	switch raw[0] {
	case '"':
		var s string
		json.Unmarshal(raw, &s) // It is part of valid JSON.
		return s
	case '{', '[', 'n':
		return ""
	}
	return string(raw)
}

// token returns a member that is a token. It must be a string: a provider that has no token may
// say so by false, and a serializer may write null as a word.
func (m members) token(name string) string {
	if raw := bytes.TrimSpace(m[name]); len(raw) == 0 || raw[0] != '"' {
		return ""
	}
	switch t := m.text(name); strings.ToLower(t) {
	case "null", "undefined", "none":
		return ""
	default:
		return t
	}
}

// object returns a member that is an object, or nil.
func (m members) object(name string) members {
	var o members
	if json.Unmarshal(m[name], &o) != nil {
		return nil
	}
	return o
}

// list returns the elements of a member that is an array, as text.
func (m members) list(name string) []string {
	var elements []json.RawMessage
	if json.Unmarshal(m[name], &elements) != nil {
		return nil
	}
	texts := make([]string, len(elements))
	for i, e := range elements {
		texts[i] = members{"": e}.text("")
	}
	return texts
}

// scope returns the granted scopes, separated by spaces (RFC 6749 section 3.3). GitHub and
// Slack separate them by commas, and others send an array.
func (m members) scope() string {
	s := m.text("scope")
	if s == "" {
		s = strings.Join(m.list("scope"), " ")
	}
	if !strings.ContainsAny(s, " \t\n") {
		s = strings.ReplaceAll(s, ",", " ")
	}
	return strings.Join(strings.Fields(text.Printable(s)), " ")
}
