// Package idtoken reads ID tokens that have come from a token endpoint over TLS, which is
// why their signatures are not validated (OpenID Connect Core section 3.1.3.7).
package idtoken

import (
	"encoding/base64"
	"encoding/json"
	"strings"

	"github.com/stayauth/stayauth/tokencache"
)

// Claims reads the claims of token into the struct that claims points to. It reports
// whether that is possible; encrypted tokens, for instance, cannot be read.
func Claims(token tokencache.Secret, claims any) bool {
	parts := strings.Split(string(token), ".")
	if len(parts) != 3 { // RFC 7515 section 3.1
		return false
	}
	payload, err := base64.RawURLEncoding.DecodeString(parts[1])
	return err == nil && json.Unmarshal(payload, claims) == nil
}
