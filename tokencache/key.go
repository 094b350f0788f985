package tokencache

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"strings"
)

// A Key says whose tokens an entry holds. A refresh token may only ever go back
// to the issuer and client it came from (RFC 6749 section 10.4), so both are part
// of the key: another issuer or client never finds the entry.
//
// Audience may be any text. transport makes one of what an Endpoint asks for: its
// "audience", "resource" and, for client credentials, "scope" parameters in form
// encoding, the names and the values of each in order, no value twice. So two that
// differ never have one Audience, and a change of order changes nothing:
//
//	audience=https%3A%2F%2Fa.example&resource=https%3A%2F%2Fb.example&resource=https%3A%2F%2Fc.example
type Key struct {
	Issuer   string // The provider: its issuer identifier, or its token URL.
	ClientID string // The OAuth client the tokens were issued to.
	Account  string // Which of the user's accounts; "" if the application has one.
	Audience string // What the tokens are for (RFC 8707); "" for the default.
}

// labelMark stands in Account between the account and the label.
const labelMark = "\x00"

// WithLabel returns the key of one more login of the same Account, beside the one that has
// no label. The label must not be empty, and neither it nor Account may have a zero byte in
// it. The names of all these entries begin with that of k, so they can be listed.
func (k Key) WithLabel(label string) Key {
	k.Account += labelMark + label
	return k
}

// Label returns the Account without its label, and the label.
func (k Key) Label() (account, label string) {
	account, label, _ = strings.Cut(k.Account, labelMark)
	return account, label
}

// Name returns the name under which a Store keeps the entry: a hash, the same on
// every machine and in every version of this module, safe as a file name, which
// tells nothing about the account.
func (k Key) Name() string {
	account, label := k.Label()
	if label == "" {
		return k.hash()
	}
	plain := k
	plain.Account = account
	return plain.hash() + labelSeparator + k.hash()
}

// labelSeparator stands in the names of entries with a label after that of the one without.
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
