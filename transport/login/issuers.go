package login

import (
	"cmp"
	"context"
	"net/url"
	"strings"

	"github.com/stayauth/stayauth/transport/internal/callbackpath"
)

// usualPath is the path of the redirect URI, unless that has to differ from those for other
// issuers.
const usualPath = callbackpath.Usual

// callbackPath returns the path of the redirect URI if the program has not chosen one.
//
// If a program logs in at several issuers, one of them may be malicious, and redirect the
// browser to another one, whose code would then be sent to the malicious token endpoint, with
// the verifier (RFC 9700 section 4.4). An iss in the answer reveals that. Without it, the
// answer has to arrive at a path that belongs to this issuer alone (section 4.4.2.2), and
// another provider that compares redirect URIs, as it must (section 4.1.3), does not send its
// codes there.
//
// Most providers want the path to be registered. So it is changed only where it has to be: not
// for addresses that the program itself vouches for, and not while the cache knows only one
// issuer. But one that an API may have named can lead the user to another at the very first login.
func (f *flow) callbackPath(ctx context.Context) string {
	if p := f.Provider; p.SendsIss || !p.Discovered || p.Resource == "" && !f.severalIssuers(ctx) {
		return usualPath
	}
	return callbackpath.Own(f.Provider.Issuer)
}

// severalIssuers reports whether the cache is known to have logins of another issuer. If it
// cannot be listed or read, that is not known.
func (f *flow) severalIssuers(ctx context.Context) bool {
	if f.Cache == nil {
		return false
	}
	own := cmp.Or(f.Endpoint.Issuer, f.Endpoint.TokenURL)
	for rec, err := range f.Cache.List(ctx) {
		if err != nil {
			continue
		}
		if issuer, _, _ := strings.Cut(rec.Key.Issuer, "#"); issuer != own {
			return true
		}
	}
	return false
}

// sameAddress reports whether a user has pasted the redirect URI with parameters. Browsers
// write some addresses differently, but not their path.
func sameAddress(pasted, redirectURI string) bool {
	got, err := url.Parse(strings.Trim(pasted, "\"'<> \t"))
	want, wantErr := url.Parse(redirectURI)
	return err == nil && wantErr == nil && got.EscapedPath() == want.EscapedPath()
}
