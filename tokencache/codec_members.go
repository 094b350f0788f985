package tokencache

import (
	"bytes"
	"encoding/json"
	"errors"
	"time"
	"unicode/utf8"
)

// text is a string as it is stored. Tokens are printable ASCII (RFC 6749 appendix A), but
// whatever a provider sends must come back unchanged, and JSON strings cannot hold bytes that
// are not UTF-8.
type text string

type binaryText struct {
	Base64 []byte `json:"base64"`
}

func (t text) MarshalJSON() ([]byte, error) { return t.appendTo(nil), nil }

func (t text) appendTo(b []byte) []byte {
	if t.isPlain() {
		return append(append(append(b, '"'), t...), '"')
	}
	var value any = string(t)
	if !utf8.ValidString(string(t)) {
		value = binaryText{[]byte(t)}
	}
	raw, _ := json.Marshal(value) // of a string or of bytes: there is no error
	return append(b, raw...)
}

// isPlain reports whether json.Marshal puts nothing but quotes around t.
func (t text) isPlain() bool {
	for i := range len(t) {
		switch c := t[i]; {
		case c < ' ', c > '~', c == '"', c == '\\', c == '<', c == '>', c == '&':
			return false
		}
	}
	return true
}

func (t *text) UnmarshalJSON(data []byte) error {
	if n := len(data) - 1; n > 0 && data[0] == '"' && data[n] == '"' && text(data[1:n]).isPlain() {
		*t = text(data[1:n])
		return nil
	}
	if !bytes.HasPrefix(data, []byte("{")) {
		return json.Unmarshal(data, (*string)(t))
	}
	var b binaryText
	err := json.Unmarshal(data, &b)
	*t = text(b.Base64)
	return err
}

// extra is Record.Extra as it is stored.
type extra map[string]Secret

func (e extra) MarshalJSON() ([]byte, error) {
	out := make(map[string]text, len(e))
	for k, v := range e {
		out[k] = text(v)
	}
	return json.Marshal(out)
}

func (e *extra) UnmarshalJSON(data []byte) error {
	var in map[string]text
	err := json.Unmarshal(data, &in)
	if in == nil {
		return err
	}
	*e = make(extra, len(in))
	for k, v := range in {
		(*e)[k] = Secret(v)
	}
	return err
}

// storedKey is Record.bound as it is stored.
type storedKey struct{ of **boundKey }

type keyMembers struct {
	Private    []byte `json:"key,omitempty"`
	Thumbprint string `json:"jkt"` // as in RFC 9449 section 6.1
}

func (k *storedKey) MarshalJSON() ([]byte, error) {
	return json.Marshal(keyMembers{[]byte((*k.of).private), (*k.of).thumbprint})
}

func (k *storedKey) UnmarshalJSON(data []byte) error {
	var in keyMembers
	if err := json.Unmarshal(data, &in); err != nil {
		return err
	}
	if in.Thumbprint == "" {
		return errors.New("the thumbprint is missing")
	}
	*k.of = &boundKey{Secret(in.Private), in.Thumbprint}
	return nil
}

// instant is a time as it is stored: RFC 3339 in UTC, with nanoseconds.
type instant time.Time

// appendTo never fails: RFC 3339 has four digits for the year, and a provider
// that promises more must not make the record unwritable, because the refresh
// token would be lost with it.
func (i instant) appendTo(b []byte) ([]byte, error) {
	first := time.Time{}.Add(time.Second) // the zero Time means "not known"
	last := time.Date(9999, 12, 31, 23, 59, 59, 0, time.UTC)
	t := time.Time(i).UTC()
	if t.Before(first) {
		t = first
	}
	if t.After(last) {
		t = last
	}
	b, err := t.AppendText(append(b, '"'))
	return append(b, '"'), err
}

func (i *instant) UnmarshalJSON(data []byte) error {
	return (*time.Time)(i).UnmarshalJSON(data)
}
