package tokencache

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"strings"
)

// A Key says whose tokens an entry holds. A refresh token must only ever go back to its issuer,
// and from the client that it was issued to (RFC 6749 section 10.4), so both are part of the
// key: another issuer or client never finds the entry.
//
// Audience may be any text. Package transport derives it from what an Endpoint asks for: its
// "audience" and "resource" parameters in form encoding, with sorted names, sorted values, and no
// value twice. For grants without a user it is made of the "scope" and all other parameters too,
// and of what the grant says about the token ("about"). So different requests never have the
// same Audience, and their order does not matter:
//
//	audience=https%3A%2F%2Fa.example&resource=https%3A%2F%2Fb.example&resource=https%3A%2F%2Fc.example
type Key struct {
	Issuer   string // The provider: its issuer identifier, or its token URL.
	ClientID string // The OAuth client the tokens were issued to.
	Account  string // Which of the user's accounts; "" if the application has one.
	Audience string // What the tokens are for (RFC 8707); "" for the default.
}

// labelMark separates the account from the label in Account.
const labelMark = "\x00"

// WithLabel returns the key of one more login of the same Account, beside the one that has no
// label. The label must not be empty, and neither it nor Account may contain a zero byte. The
// names of all these entries begin with that of k, so they can be listed.
func (k Key) WithLabel(label string) Key {
	k.Account += labelMark + label
	return k
}

// Label returns the Account without its label, and the label.
func (k Key) Label() (account, label string) {
	account, label, _ = strings.Cut(k.Account, labelMark)
	return account, label
}

// Name returns the name under which a Store keeps the entry: a hash that is the same on every
// machine and in every version of this module, is safe as a file name, and reveals nothing
// about the account.
func (k Key) Name() string {
	account, label := k.Label()
	if label == "" {
		return k.hash()
	}
	plain := k
	plain.Account = account
	return plain.hash() + labelSeparator + k.hash()
}

// labelSeparator follows the name of the entry without a label in the names of those with one.
const labelSeparator = "-"

func (k Key) hash() string {
	h := sha256.New()
	h.Write([]byte("stayauth key v1"))
	for _, part := range []string{k.Issuer, k.ClientID, k.Account, k.Audience} {
		// Length-prefixed, so that no two keys share an encoding.
		var n [8]byte
		binary.BigEndian.PutUint64(n[:], uint64(len(part)))
		h.Write(n[:])
		h.Write([]byte(part))
	}
	return hex.EncodeToString(h.Sum(nil)[:20])
}
