// Package callbackpath says to which path of the program an authorization server sends the browser
// back.
package callbackpath

import (
	"crypto/sha256"
	"encoding/hex"
)

// Usual is the path for an issuer whose answers cannot be taken for those of another.
const Usual = "/callback"

// Own returns the path that belongs to an issuer alone (RFC 9700 section 4.4.2.2).
func Own(issuer string) string {
	sum := sha256.Sum256([]byte(issuer))
	return Usual + "/" + hex.EncodeToString(sum[:8])
}
