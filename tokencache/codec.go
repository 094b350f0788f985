package tokencache

import (
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"time"
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
// The names never change. They are in order, and "targets" need "grant". The version, which is
// last, is that of the whole. (An array needs no memory of its own.)
func (r *Record) members() [30]member {
	return [30]member{
		{"access_token", (*text)(&r.AccessToken)},
		{"account", (*text)(&r.Key.Account)},
		{"attempt", &r.Attempt},
		{"audience", (*text)(&r.Key.Audience)},
		{"authorized_at", (*instant)(&r.AuthorizedAt)},
		{"claims", (*text)(&r.Claims)},
		{"client_id", (*text)(&r.Key.ClientID)},
		{"dpop", &storedKey{&r.bound}},
		{"ending_at", (*instant)(&r.EndingAt)},
		{"expiry", (*instant)(&r.Expiry)},
		{"extra", (*extra)(&r.Extra)},
		{"for", (*text)(&r.For)},
		{"forced_at", (*instant)(&r.ForcedAt)},
		{"generation", &r.Generation},
		{"grant", (*text)(&r.LoginID)},
		{"id_token", (*text)(&r.IDToken)},
		{"interrupted_at", (*instant)(&r.InterruptedAt)},
		{"issuer", (*text)(&r.Key.Issuer)},
		{"obtained_at", (*instant)(&r.ObtainedAt)},
		{"place", &r.Copy},
		{"put_back_at", (*instant)(&r.PutBackAt)},
		{"refresh_at", (*instant)(&r.RefreshAt)},
		{"refresh_expiry", (*instant)(&r.RefreshExpiry)},
		{"refresh_token", (*text)(&r.RefreshToken)},
		{"scope", (*text)(&r.Scope)},
		{"targets", &storedTargets{r}},
		{"token_type", (*text)(&r.TokenType)},
		{"token_url", (*text)(&r.TokenURL)},
		{"tombstone", &r.Tombstone},
		{"v", nil},
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
	return r.encode(&version)
}

// encode returns what json.Marshal would return of a map of the members of r, with a version or
// nil. It does most of that itself, because a record is saved twice for each refresh.
func (r *Record) encode(version *int) (_ []byte, err error) {
	known := r.members()
	if version != nil {
		known[len(known)-1].value = version
	}
	all := known[:]
	if r.rest != nil && len(r.rest.unknown) > 0 {
		for name, raw := range r.rest.unknown {
			all = append(all, member{name, raw})
		}
		slices.SortFunc(all, func(a, b member) int { return strings.Compare(a.name, b.name) })
	}
	const others = 600 // what most records have besides tokens
	b := append(make([]byte, 0, others+len(r.AccessToken)+len(r.RefreshToken)+len(r.IDToken)), '{')
	for _, m := range all {
		if isZero(m.value) {
			continue
		}
		if len(b) > 1 {
			b = append(b, ',')
		}
		b = append(text(m.name).appendTo(b), ':')
		if b, err = m.appendTo(b); err != nil {
			return nil, fmt.Errorf("record: member %q cannot be written", m.name)
		}
	}
	return append(b, '}'), nil
}

func (m member) appendTo(b []byte) ([]byte, error) {
	switch v := m.value.(type) {
	case *text:
		return v.appendTo(b), nil
	case *instant:
		return v.appendTo(b)
	}
	raw, err := json.Marshal(m.value)
	return append(b, raw...), err
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
	case nil:
		return true
	case json.RawMessage:
		return false
	case *text:
		return *v == ""
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
		if !ok || m.value == nil {
			continue
		}
		if m.decode(raw) != nil {
			return fmt.Errorf("%w: member %q of the record is malformed", ErrCorrupt, m.name)
		}
		delete(in, m.name)
	}
	return nil
}
