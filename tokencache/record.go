package tokencache

import (
	"fmt"
	"maps"
	"time"
)

// A Record is one login: the tokens of one account at one provider, and what is
// needed to renew them safely. Its secrets print as "[redacted]".
//
// Times are wall-clock times with a resolution of one second or finer; the zero
// Time means "not known", never "never".
type Record struct {
	Key Key // Whose tokens these are. Set by Cache.Save.

	// TokenURL is the token endpoint that issued the refresh token, and the only
	// one that it may be sent to.
	TokenURL string

	AccessToken  Secret
	TokenType    string // As the provider sent it, such as "Bearer".
	RefreshToken Secret // Empty if the grant has none, as with client credentials.
	IDToken      Secret
	Scope        string // Granted scopes, separated by spaces.

	AuthorizedAt  time.Time // When the user logged in.
	ObtainedAt    time.Time // When the access token was obtained.
	Expiry        time.Time // When the access token expires.
	RefreshAt     time.Time // When the provider asks to refresh (refresh_in).
	RefreshExpiry time.Time // When the refresh token expires.

	// LoginID is random and new for every login. Two records with the same LoginID descend
	// from one login, and the one with the higher Generation is newer.
	LoginID    string
	Generation uint64 // +1 for every refresh.

	// For says what the tokens are for if Key.Audience is empty. Earlier versions stored
	// the logins for all audiences under such a key, and wrote no For.
	For string

	// Attempt is the journal: it is set before the refresh token is sent, and cleared when
	// the answer is saved. A stored record that has one belongs to a refresh whose outcome
	// is not known.
	Attempt *Attempt

	// InterruptedAt is when a refresh began whose outcome never became known, and whose
	// refresh token was presented once more, which brought this one. For some minutes the
	// provider may still handle the first request, and take it for a reuse.
	InterruptedAt time.Time

	// PutBackAt is when a process put this state of the login back into a store that had
	// lost it, or found out that the store had lost the lock. Others may know a later state,
	// so its refresh token is not presented at once.
	PutBackAt time.Time

	// EndingAt is when the login ends whatever is done, once the user was asked to log in
	// again before that, see EventEnding in package transport.
	EndingAt time.Time

	// ForcedAt is when the access token was last replaced because an API rejected it, so
	// that an API that rejects everything cannot cause a storm of refreshes.
	ForcedAt time.Time

	// Claims is what an API demanded of the next access token when it rejected this one,
	// which is therefore not used any more: the value of the "claims" parameter of OpenID
	// Connect Core section 5.5. Empty once there is another access token.
	Claims string

	// Tombstone, if not nil, says that the provider has refused the refresh token.
	// Only a login ends that state.
	Tombstone *Tombstone

	// Copy, if not nil, says that this is, or was, a copy of a record in another store. Set by
	// Cache.Load, and kept by Cache.Save; without it, the record is at home where it is
	// saved.
	Copy *Copy

	// Extra holds the other members of the provider's answer, such as
	// "instance_url": strings as they are, anything else as JSON.
	Extra map[string]Secret

	// bound is the key that the tokens are bound to, or nil. It is never modified.
	bound *boundKey

	// rest is nil in most records, and never modified.
	rest *rest

	// place is where the record was loaded, or the one that it has come of was: the id of a store
	// that begins refreshes, or "" if it is not known.
	place string
}

// An Attempt says which process was about to spend the record's refresh token, and when.
type Attempt struct {
	At  time.Time `json:"at"`
	PID int       `json:"pid"`
}

// A Tombstone says why a refresh token is dead. It holds no secret.
type Tombstone struct {
	At          time.Time `json:"at"`
	Code        string    `json:"code"`                  // The provider's error code, such as "invalid_grant".
	Description string    `json:"description,omitempty"` // The provider's words, cut short.
	URI         string    `json:"uri,omitempty"`         // A page about the error, if the provider named one.
	Claims      string    `json:"claims,omitempty"`      // What the next login has to ask for, see Record.Claims.

	// Target is not empty if the provider wants the user before it issues a token for that
	// target, see Record.Select. The refresh token is good for the others.
	Target string `json:"target,omitempty"`

	// Interrupted says that the outcome of an earlier refresh with this token was never
	// known: the token may be dead because that refresh succeeded and its answer was lost.
	// If Record.InterruptedAt is set, that refresh was one with the token before this one.
	Interrupted bool `json:"interrupted,omitempty"`
}

// A Copy says in which store a record was saved that was found in another one.
type Copy struct {
	ID   string `json:"id,omitempty"`   // A hash of the id of that store, see Placer.
	Name string `json:"name,omitempty"` // Its name.

	// AdoptedAt is when somebody declared the record to be at home where it was found. Zero:
	// nobody has, and its refresh token must not be used.
	AdoptedAt time.Time `json:"adopted_at,omitzero"`
}

// IsCopy reports whether the refresh token of r must not be used, because it belongs to another
// store, until somebody decides otherwise, see Cache.Adopt.
func (r *Record) IsCopy() bool { return r.Copy != nil && r.Copy.AdoptedAt.IsZero() }

// Format prints the record without its secrets, whatever the verb. The methods of Secret are
// not enough: fmt does not call them when a verb does not fit a struct behind a pointer.
func (r Record) Format(f fmt.State, _ rune) {
	type bare Record
	r.rest, r.place = nil, "" // The one may hold secrets, the other is of no interest.
	fmt.Fprintf(f, "%+v", bare(r))
}

// Bind says that the tokens of r are bound to a key (RFC 9449), and good only together with
// proofs that it has signed. private is the key, PKCS #8 in DER, which is sealed with the
// tokens; it is empty if the key is elsewhere and cannot leave that place. thumbprint is that of
// the public key (RFC 7638). Without both, the tokens are bound to nothing. Versions of this
// module that cannot prove anything refuse such a record, and leave it as it is.
func (r *Record) Bind(private Secret, thumbprint string) {
	if r.bound = nil; private != "" || thumbprint != "" {
		r.bound = &boundKey{private, thumbprint}
	}
}

// Proof returns what was given to Bind, or nothing if the tokens of r are bound to no key.
func (r *Record) Proof() (private Secret, thumbprint string) {
	if r.bound == nil {
		return "", ""
	}
	return r.bound.private, r.bound.thumbprint
}

// A boundKey is the key that the tokens of a record are bound to, the same for the whole life of
// a login.
type boundKey struct {
	private    Secret
	thumbprint string
}

// NewerThan reports whether r is a later state of the login than other, or a later login. Of two
// logins that were made at the same time, each is: the one that comes last counts.
func (r *Record) NewerThan(other *Record) bool {
	if r.LoginID != other.LoginID {
		return !r.AuthorizedAt.Before(other.AuthorizedAt)
	}
	return r.Generation > other.Generation
}

// Clone returns a deep copy.
func (r *Record) Clone() *Record {
	c := *r
	c.Extra = maps.Clone(r.Extra)
	if r.Attempt != nil {
		a := *r.Attempt
		c.Attempt = &a
	}
	if r.Tombstone != nil {
		t := *r.Tombstone
		c.Tombstone = &t
	}
	if r.Copy != nil {
		from := *r.Copy
		c.Copy = &from
	}
	return &c
}
