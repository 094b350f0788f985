package login

import (
	"cmp"
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/stayauth/stayauth/tokencache"
	"github.com/stayauth/stayauth/transport"
	"github.com/stayauth/stayauth/transport/internal/idtoken"
)

// clockError is how much the clocks of this machine and the provider may differ when an ID
// token comes. checkClock, which is called first, allows a little less.
const clockError = 5 * time.Minute

// openID reports whether an ID token was requested.
func (f *flow) openID() bool { return slices.Contains(f.Endpoint.Scopes, "openid") }

// nonce ties an ID token to this attempt (OpenID Connect Core section 15.5.2). It is derived
// from the verifier, which it does not reveal, so there is only one secret to keep.
func (r *request) nonce() string {
	sum := sha256.Sum256([]byte("stayauth nonce\n" + r.verifier))
	return base64.RawURLEncoding.EncodeToString(sum[:16])
}

// checkIDToken makes sure that an ID token that was requested is about this attempt (OpenID
// Connect Core section 3.1.3.7). It came from the token endpoint over TLS, so its signature
// says nothing new (point 6). If it is missing, or encrypted for somebody else, there is
// nothing to check.
func (r *request) checkIDToken(token tokencache.Secret) error {
	if !r.openID() || token == "" || strings.Count(string(token), ".") == 4 {
		return nil
	}
	var c struct {
		Issuer   string          `json:"iss"`
		Tenant   string          `json:"tid"`
		Audience json.RawMessage `json:"aud"`
		Party    string          `json:"azp"`
		Nonce    string          `json:"nonce"`
		Expiry   float64         `json:"exp"`
		IssuedAt float64         `json:"iat"`
	}
	if !idtoken.Claims(token, &c) {
		return r.notOurs("it cannot be read")
	}
	var audience []string
	if json.Unmarshal(c.Audience, &audience) != nil {
		audience = []string{""}
		json.Unmarshal(c.Audience, &audience[0])
	}
	now := time.Now()
	switch id := r.Endpoint.ClientID; {
	case !sameIssuer(c.Issuer, r.Provider.Issuer, c.Tenant):
		return r.notOurs("it comes from another issuer")
	case !slices.Contains(audience, id), c.Party != "" && c.Party != id, c.Party == "" && len(audience) > 1:
		return r.notOurs("it was made for another client")
	case subtle.ConstantTimeCompare([]byte(c.Nonce), []byte(r.nonce())) != 1:
		return r.notOurs("it belongs to another login: its nonce is not the one that was sent")
	case now.Add(-clockError).After(unix(c.Expiry)):
		return wrongClock("the ID token had expired before it came")
	case now.Add(clockError).Before(unix(c.IssuedAt)):
		return wrongClock("the ID token was issued in the future")
	}
	return nil
}

// unix returns the time of a NumericDate (RFC 7519 section 2).
func unix(seconds float64) time.Time { return time.Unix(int64(min(seconds, 1<<40)), 0) }

// sameIssuer reports whether iss names the issuer. Google leaves out the scheme, as it has
// always done, and Microsoft Entra replaces the tenant that was asked, such as "common", by the
// one that the user belongs to, which it also names in tid.
func sameIssuer(iss, issuer, tenant string) bool {
	if issuer == "" || iss == issuer || "https://"+iss == issuer {
		return true
	}
	want, err1 := url.Parse(issuer)
	got, err2 := url.Parse(iss)
	if err1 != nil || err2 != nil || tenant == "" || got.Scheme != want.Scheme || got.Host != want.Host {
		return false
	}
	_, rest, _ := strings.Cut(strings.TrimPrefix(want.Path, "/"), "/")
	return rest == "v2.0" && got.Path == "/"+tenant+"/v2.0"
}

func (r *request) notOurs(why string) *transport.Error {
	return &transport.Error{Kind: transport.ErrMisconfigured, Op: "login", Field: "Config.Provider", Err: errors.New("the ID token is not used: " + why),
		Remedy: "make sure that Issuer and the endpoints are those of one provider, and log in again"}
}

// checkClock returns an error if an ID token would not be used because of this machine's clock,
// or the provider's. It is asked before the user is sent away. Nothing else in a login depends
// on the clocks, so a provider that does not tell the time is no obstacle.
func (f *flow) checkClock(ctx context.Context) error {
	base := cmp.Or(f.Endpoint.Base, http.DefaultTransport)
	asked := f.Endpoint.TokenURL
	if f.Endpoint.ClientCertificate {
		asked = cmp.Or(f.Endpoint.MTLSAliases[asked], asked)
	}
	ahead := f.clock.Ahead(ctx, base, asked)
	switch {
	case ahead > 0:
		return wrongClock("the clock of this machine is " + roughly(ahead) + " ahead of the provider's")
	case ahead < 0:
		return wrongClock("the clock of this machine is " + roughly(-ahead) + " behind the provider's")
	}
	return nil
}

// roughly returns d in words, for a person.
func roughly(d time.Duration) string {
	switch {
	case d < 3*time.Hour:
		return fmt.Sprintf("%.0f minutes", d.Minutes())
	case d < 72*time.Hour:
		return fmt.Sprintf("%.0f hours", d.Hours())
	}
	return fmt.Sprintf("%.0f days", d.Hours()/24)
}

func wrongClock(what string) *transport.Error {
	return &transport.Error{Kind: transport.ErrMisconfigured, Op: "login", Err: errors.New(what),
		Remedy: "set the clock of this machine, by NTP for instance, or have the provider's set: they may differ by 4 minutes at most"}
}
