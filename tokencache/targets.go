package tokencache

import (
	"cmp"
	"encoding/json"
	"maps"
	"slices"
	"time"
)

// A provider may issue tokens for several targets to one login: for each resource of RFC 8707
// section 2.2, or for each API of Microsoft Entra. They have one refresh token and so one
// record, whose fields hold one of the access tokens at a time, see Record.Select.

// rest is what few records have.
type rest struct {
	unknown map[string]json.RawMessage // the members that a newer version of this module wrote

	// selected is the target whose token the fields of the record hold, and others has the
	// fields of the others, of the login loginID. That which has no target is the login's own.
	selected string
	loginID  string
	others   map[string]*Record
}

// maxTargets is how many tokens are stored beside the login's own: enough for the APIs that one
// program uses, and few enough for any Store.
const maxTargets = 16

// Select makes AccessToken, TokenType, Scope, ObtainedAt, Expiry, RefreshAt, ForcedAt and Claims
// of r those of the login's token for another target, such as another resource (RFC 8707), or
// empty if there is none. target is any name for that; "" is the token that came with the login,
// which is also what Cache.Load and the lists of a Cache return. All that is known of the other
// tokens is kept and saved with r, until it expires, until LoginID changes, or if the store has
// no room for it.
func (r *Record) Select(target string) {
	if target == r.selected() {
		return
	}
	others := maps.Clone(r.others())
	if others == nil {
		others = make(map[string]*Record)
	}
	others[r.selected()] = r.token()
	if r.Tombstone != nil && r.Tombstone.Target != "" {
		r.Tombstone = nil
	}
	next := others[target]
	delete(others, target)
	if next == nil {
		next = new(Record)
	}
	r.AccessToken, r.TokenType, r.Scope = next.AccessToken, next.TokenType, next.Scope
	r.ObtainedAt, r.Expiry, r.RefreshAt, r.ForcedAt, r.Claims = next.ObtainedAt, next.Expiry, next.RefreshAt, next.ForcedAt, next.Claims
	if r.Tombstone == nil { // A dead refresh token counts for all.
		r.Tombstone = next.Tombstone
	}
	maps.DeleteFunc(others, func(target string, t *Record) bool { return target != "" && t.AccessToken == "" && t.Tombstone == nil })
	r.setOthers(target, others)
}

// RenewedAt returns when the login was last renewed, for whatever target.
func (r *Record) RenewedAt() time.Time {
	at := r.ObtainedAt
	for _, t := range r.others() {
		if t.ObtainedAt.After(at) {
			at = t.ObtainedAt
		}
	}
	return at
}

func (r *Record) selected() string {
	if r.rest == nil {
		return ""
	}
	return r.rest.selected
}

// others returns what is known of the tokens that are not selected. It must not be modified.
func (r *Record) others() map[string]*Record {
	if r.rest == nil || r.rest.loginID != r.LoginID {
		return nil // A new login may be that of another user.
	}
	return r.rest.others
}

// setOthers replaces r.rest, which records may share.
func (r *Record) setOthers(selected string, others map[string]*Record) {
	next := &rest{selected: selected, loginID: r.LoginID}
	if r.rest != nil {
		next.unknown = r.rest.unknown
	}
	if len(others) > 0 {
		next.others = others
	}
	if r.rest = next; next.unknown == nil && next.others == nil && selected == "" {
		r.rest = nil
	}
}

// token returns what r says about the token that is selected, and nothing else.
func (r *Record) token() *Record {
	t := &Record{AccessToken: r.AccessToken, TokenType: r.TokenType, Scope: r.Scope, ObtainedAt: r.ObtainedAt, Expiry: r.Expiry, RefreshAt: r.RefreshAt, ForcedAt: r.ForcedAt, Claims: r.Claims}
	if r.Tombstone != nil && r.Tombstone.Target != "" {
		dead := *r.Tombstone
		t.Tombstone = &dead
	}
	return t
}

// stored returns r as it is saved: with the login's own token selected, and of the others those
// that have not expired, and not too many. If lean is true, it has no token but the selected one.
func (r *Record) stored(lean bool) *Record {
	if r.rest == nil || r.rest.selected == "" && r.rest.others == nil {
		return r
	}
	c, now := *r, time.Now()
	c.Select("")
	others := maps.Clone(c.others())
	maps.DeleteFunc(others, func(target string, t *Record) bool {
		old := !t.Expiry.IsZero() && !now.Before(t.Expiry)
		return t.Tombstone == nil && (old || lean && target != r.selected())
	})
	if lean && r.selected() != "" {
		c.AccessToken, c.Expiry, c.RefreshAt = "", time.Time{}, time.Time{}
	}
	latest := slices.SortedFunc(maps.Keys(others), func(a, b string) int {
		return cmp.Or(others[b].ObtainedAt.Compare(others[a].ObtainedAt), cmp.Compare(a, b))
	})
	for _, target := range latest[min(maxTargets, len(latest)):] {
		delete(others, target)
	}
	c.setOthers("", others)
	return &c
}

// hasOthers reports whether r would be smaller if it were stored lean.
func (r *Record) hasOthers() bool { return len(r.others()) > 0 }

// storedTargets is Record.others as it is stored, while the login's own token is selected.
type storedTargets struct{ of *Record }

type targetMembers[T any] struct {
	LoginID string       `json:"grant"` // as in the record
	Tokens  map[string]T `json:"tokens"`
}

func (s *storedTargets) MarshalJSON() ([]byte, error) {
	out := targetMembers[json.RawMessage]{s.of.LoginID, make(map[string]json.RawMessage)}
	for target, t := range s.of.others() {
		members, err := t.encode(nil)
		if err != nil {
			return nil, err
		}
		out.Tokens[target] = members
	}
	return json.Marshal(out)
}

func (s *storedTargets) UnmarshalJSON(data []byte) error {
	var in targetMembers[map[string]json.RawMessage]
	if err := json.Unmarshal(data, &in); err != nil {
		return err
	}
	others := make(map[string]*Record)
	for target, members := range in.Tokens {
		var t Record
		if err := t.decode(members); err != nil {
			return err
		}
		if target != "" {
			others[target] = t.token()
		}
	}
	if in.LoginID == s.of.LoginID {
		s.of.setOthers("", others)
	}
	return nil
}
