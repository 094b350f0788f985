package tokencache

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"reflect"
	"time"
	"unicode/utf8"
)

// The versions of the record format. There is a new one only when an older reader would
// misunderstand a record; a new member does not require that, because readers keep the members
// that they do not know. But a reader that ignores the key of a record would present its refresh
// token without a proof, and the provider would refuse that as invalid: so such records, and no
// others, have the second version.
const (
	recordVersion      = 1
	boundRecordVersion = 2 // bound to a key
)

// A member pairs a name in the stored form with the field that holds its value.
type member struct {
	name  string
	value any // a pointer to a type that marshals itself raw, unlike Secret
}

// members lists the stored form of a record: the one table that encoding and decoding share.
// The names never change.
func (r *Record) members() []member {
	return []member{
		{"issuer", (*text)(&r.Key.Issuer)},
		{"client_id", (*text)(&r.Key.ClientID)},
		{"account", (*text)(&r.Key.Account)},
		{"audience", (*text)(&r.Key.Audience)},
		{"for", (*text)(&r.For)},
		{"token_url", (*text)(&r.TokenURL)},
		{"access_token", (*text)(&r.AccessToken)},
		{"token_type", (*text)(&r.TokenType)},
		{"refresh_token", (*text)(&r.RefreshToken)},
		{"id_token", (*text)(&r.IDToken)},
		{"scope", (*text)(&r.Scope)},
		{"authorized_at", (*instant)(&r.AuthorizedAt)},
		{"obtained_at", (*instant)(&r.ObtainedAt)},
		{"expiry", (*instant)(&r.Expiry)},
		{"refresh_at", (*instant)(&r.RefreshAt)},
		{"refresh_expiry", (*instant)(&r.RefreshExpiry)},
		{"grant", (*text)(&r.LoginID)},
		{"generation", &r.Generation},
		{"attempt", &r.Attempt},
		{"interrupted_at", (*instant)(&r.InterruptedAt)},
		{"put_back_at", (*instant)(&r.PutBackAt)},
		{"ending_at", (*instant)(&r.EndingAt)},
		{"forced_at", (*instant)(&r.ForcedAt)},
		{"claims", (*text)(&r.Claims)},
		{"tombstone", &r.Tombstone},
		{"dpop", &storedKey{&r.bound}},
		{"place", &r.Copy},
		{"extra", (*extra)(&r.Extra)},
		{"targets", &storedTargets{r}}, // after "grant"
	}
}

// encodeRecord returns the stored form of r, with its secrets in the clear.
func encodeRecord(r *Record) ([]byte, error) { return encodeStored(r.stored(false)) }

// encodeStored is encodeRecord of what Record.stored has returned.
func encodeStored(r *Record) ([]byte, error) {
	version := recordVersion
	if r.bound != nil {
		version = boundRecordVersion
		if r.bound.thumbprint == "" { // Nobody could read it.
			return nil, errors.New("record: the key that it is bound to has no thumbprint")
		}
	}
	out, err := r.encode()
	if err != nil {
		return nil, err
	}
	out["v"] = json.RawMessage(fmt.Sprint(version))
	return json.Marshal(out) // in the order of the names
}

// encode returns the members of r.
func (r *Record) encode() (map[string]json.RawMessage, error) {
	out := make(map[string]json.RawMessage)
	if r.rest != nil {
		maps.Copy(out, r.rest.unknown)
	}
	for _, m := range r.members() {
		if isZero(m.value) {
			continue
		}
		raw, err := m.encode()
		if err != nil {
			return nil, fmt.Errorf("record: member %q cannot be written", m.name)
		}
		out[m.name] = raw
	}
	return out, nil
}

// encode returns what json.Marshal returns, which would parse what the usual types return.
func (m member) encode() ([]byte, error) {
	switch v := m.value.(type) {
	case *text:
		return v.MarshalJSON()
	case *instant:
		return v.MarshalJSON()
	}
	return json.Marshal(m.value)
}

// decode does what json.Unmarshal does, which would parse twice what the usual types parse.
func (m member) decode(raw []byte) error {
	switch v := m.value.(type) {
	case *text:
		return v.UnmarshalJSON(raw)
	case *instant:
		return v.UnmarshalJSON(raw)
	}
	return json.Unmarshal(raw, m.value)
}

func isZero(pointer any) bool {
	switch v := pointer.(type) {
	case *instant:
		return time.Time(*v).IsZero() // in any location
	case *storedKey:
		return *v.of == nil
	case *storedTargets:
		return len(v.of.others()) == 0
	}
	return reflect.ValueOf(pointer).Elem().IsZero()
}

// decodeRecord parses what encodeRecord wrote. Its errors wrap ErrCorrupt and
// never quote the data, which holds secrets.
func decodeRecord(data []byte) (*Record, error) { return decodeUpTo(boundRecordVersion, data) }

// decodeUpTo is decodeRecord of a program that knows the formats up to newest.
func decodeUpTo(newest int, data []byte) (*Record, error) {
	var in map[string]json.RawMessage
	if json.Unmarshal(data, &in) != nil || in == nil {
		return nil, fmt.Errorf("%w: the record is not a JSON object", ErrCorrupt)
	}
	var v int
	if json.Unmarshal(in["v"], &v) != nil || v < 1 {
		return nil, fmt.Errorf("%w: the record has no version", ErrCorrupt)
	}
	if v > newest {
		return nil, fmt.Errorf("%w: the record has format %d, written by a newer version of stayauth, and this one reads up to %d: update the program",
			ErrCorrupt, v, newest)
	}
	delete(in, "v")
	r := new(Record)
	if err := r.decode(in); err != nil {
		return nil, err
	}
	if v >= boundRecordVersion && r.bound == nil { // As a bearer login it would be refused, and end.
		return nil, fmt.Errorf("%w: the record has lost the key that it is bound to", ErrCorrupt)
	}
	if len(in) > 0 {
		if r.rest == nil {
			r.rest = new(rest)
		}
		r.rest.unknown = in
	}
	return r, nil
}

// decode reads the members that it knows into r, and removes them from in.
func (r *Record) decode(in map[string]json.RawMessage) error {
	for _, m := range r.members() {
		raw, ok := in[m.name]
		if !ok {
			continue
		}
		if m.decode(raw) != nil {
			return fmt.Errorf("%w: member %q of the record is malformed", ErrCorrupt, m.name)
		}
		delete(in, m.name)
	}
	return nil
}

// text is a string as it is stored. Tokens are printable ASCII (RFC 6749 appendix A), but
// whatever a provider sends must come back unchanged, and JSON strings cannot hold bytes that
// are not UTF-8.
type text string

type binaryText struct {
	Base64 []byte `json:"base64"`
}

func (t text) MarshalJSON() ([]byte, error) {
	if utf8.ValidString(string(t)) {
		return json.Marshal(string(t))
	}
	return json.Marshal(binaryText{[]byte(t)})
}

func (t *text) UnmarshalJSON(data []byte) error {
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

// MarshalJSON never fails: RFC 3339 has four digits for the year, and a provider
// that promises more must not make the record unwritable, because the refresh
// token would be lost with it.
func (i instant) MarshalJSON() ([]byte, error) {
	first := time.Time{}.Add(time.Second) // the zero Time means "not known"
	last := time.Date(9999, 12, 31, 23, 59, 59, 0, time.UTC)
	t := time.Time(i).UTC()
	if t.Before(first) {
		t = first
	}
	if t.After(last) {
		t = last
	}
	return t.MarshalJSON()
}

func (i *instant) UnmarshalJSON(data []byte) error {
	return (*time.Time)(i).UnmarshalJSON(data)
}
