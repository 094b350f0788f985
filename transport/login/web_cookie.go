package login

import (
	"bytes"
	"cmp"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/sha256"
	"encoding/base32"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"errors"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"
)

// An attempt is what has to be known when its answer arrives. Each has a sealed cookie of its
// own, so that attempts in several tabs can end in any order. When an attempt has ended, the
// cookie says how, so that a reload leads on.
type attempt struct {
	State    string   `json:"s,omitempty"`
	Verifier string   `json:"v,omitempty"`
	Key      string   `json:"d,omitempty"` // that the login is to be bound to, see dpop.Compact
	User     string   `json:"u,omitempty"` // a hash, see userHash
	Label    string   `json:"l,omitempty"`
	Scopes   []string `json:"q,omitempty"` // that are asked for besides those of the Endpoint
	Keep     bool     `json:"k,omitempty"` // and besides those of the login that is to be replaced
	Return   string   `json:"r,omitempty"`
	End      int64    `json:"e"`           // seconds since 1970, of the cookie too
	Cause    string   `json:"c,omitempty"` // which challenge it answers, see cause.fingerprint
	Outcome  *outcome `json:"o,omitempty"`
}

// Browsers send at most some 4 KiB to 8 KiB of cookies before servers answer 431. All of
// ours together stay below 4 KiB.
const (
	maxAttempts = 5
	maxCookie   = 800 // bytes, with the name
)

var errCookieTooLong = errors.New("what the attempt has to remember does not fit into a cookie")

// cookies seals attempts. Each cookie has a key of its own, derived from its name, and what it
// belongs to is authenticated with it, so that none can be passed off as another.
type cookies struct {
	keys   [][]byte
	bound  []byte // issuer, client and redirect URI, which a cookie belongs to
	prefix string
	secure bool
	life   time.Duration
}

const minCookieKey = 32

func newCookies(keys [][]byte, secure bool, life time.Duration, bound ...string) (cookies, error) {
	if len(keys) == 0 {
		return cookies{}, misconfigured("Keys", "set it, to a random key of 32 bytes that all replicas have", nil)
	}
	// RFC 6265bis section 4.1.3: a browser accepts such a name only from this host, over TLS,
	// and not from a script. Older browsers see the __Host- in it.
	c := cookies{prefix: "__Host-Http-login-", secure: secure, life: life}
	if !secure { // for development: not every browser accepts such a cookie over plain http
		c.prefix = "stayauth-login-"
	}
	for _, key := range keys {
		if len(key) < minCookieKey {
			return cookies{}, misconfigured("Keys", "use random keys of 32 bytes or more each; a password is no key", nil)
		}
		c.keys = append(c.keys, slices.Clone(key))
	}
	for _, part := range bound {
		c.bound = binary.BigEndian.AppendUint64(c.bound, uint64(len(part)))
		c.bound = append(c.bound, part...)
	}
	return c, nil
}

var base32Lower = base32.NewEncoding("abcdefghijklmnopqrstuvwxyz234567").WithPadding(base32.NoPadding)

// attemptID returns the name of the attempt with the state, which it does not reveal.
func attemptID(state string) string {
	sum := sha256.Sum256([]byte("stayauth login attempt\n" + state))
	return base32Lower.EncodeToString(sum[:16])
}

// userHash is how an attempt remembers its user without naming them.
func userHash(state, user string) string {
	sum := sha256.Sum256([]byte("stayauth login user\n" + state + "\n" + user))
	return base64.RawURLEncoding.EncodeToString(sum[:16])
}

func (c *cookies) aead(key []byte, name string) (cipher.AEAD, error) {
	own, err := hkdf.Key(sha256.New, key, nil, "stayauth login cookie v1\n"+name, 32)
	if err != nil {
		return nil, err
	}
	block, err := aes.NewCipher(own)
	if err != nil {
		return nil, err
	}
	return cipher.NewGCMWithRandomNonce(block)
}

// data is what is authenticated with a cookie.
func (c *cookies) data(name, begun string) []byte {
	return append([]byte(name+"\n"+begun+"\n"), c.bound...)
}

// seal returns the value of the cookie for the attempt called id. It begins with the time in
// the clear: if there are too many, the oldest is removed, even if another Web made it.
func (c *cookies) seal(id string, a *attempt, now time.Time) (string, error) {
	var plain bytes.Buffer
	e := json.NewEncoder(&plain)
	e.SetEscapeHTML(false) // Five bytes for each & are too many.
	if err := e.Encode(a); err != nil {
		return "", err
	}
	name, begun := c.prefix+id, strconv.FormatInt(now.Unix(), 36)
	aead, err := c.aead(c.keys[0], name)
	if err != nil {
		return "", err
	}
	value := begun + "." + base64.RawURLEncoding.EncodeToString(aead.Seal(nil, nil, plain.Bytes(), c.data(name, begun)))
	if len(name)+len(value) > maxCookie {
		return "", errCookieTooLong
	}
	return value, nil
}

// open returns the attempt in a cookie. It reports false unless this Web, or a replica of it,
// has sealed the value under this name.
func (c *cookies) open(id, value string) (*attempt, bool) {
	begun, sealed, _ := strings.Cut(value, ".")
	if len(value) > maxCookie || len(id) > 64 {
		return nil, false
	}
	raw, err := base64.RawURLEncoding.Strict().DecodeString(sealed)
	if err != nil {
		return nil, false
	}
	name := c.prefix + id
	for _, key := range c.keys {
		aead, err := c.aead(key, name)
		if err != nil || len(raw) < aead.Overhead() {
			continue
		}
		if plain, err := aead.Open(nil, nil, raw, c.data(name, begun)); err == nil {
			a := new(attempt)
			return a, json.Unmarshal(plain, a) == nil
		}
	}
	return nil, false
}

// find returns the attempt called id that the browser has a cookie of.
func (c *cookies) find(r *http.Request, id string) (*attempt, bool) {
	for _, cookie := range r.CookiesNamed(c.prefix + id) {
		if a, ok := c.open(id, cookie.Value); ok {
			return a, true
		}
	}
	return nil, false
}

// all returns the attempts in the cookies of the browser that this Web can open.
func (c *cookies) all(r *http.Request) []*attempt {
	var all []*attempt
	for _, cookie := range r.Cookies() {
		if id, ok := strings.CutPrefix(cookie.Name, c.prefix); ok && len(all) < 2*maxAttempts {
			if a, ok := c.open(id, cookie.Value); ok {
				all = append(all, a)
			}
		}
	}
	return all
}

// of returns the cookie of the attempt called id.
func (c *cookies) of(id string, a *attempt) (*http.Cookie, error) {
	now := time.Now()
	value, err := c.seal(id, a, now)
	if err != nil {
		return nil, err
	}
	return c.cookie(c.prefix+id, value, int(time.Unix(a.End, 0).Sub(now).Seconds())+1), nil
}

func (c *cookies) cookie(name, value string, maxAge int) *http.Cookie {
	return &http.Cookie{
		Name: name, Value: value, Path: "/", MaxAge: maxAge, Secure: c.secure, HttpOnly: true,
		SameSite: http.SameSiteLaxMode, // Not Strict: the browser comes back from another site.
	}
}

// makeRoom removes the oldest attempts of the browser, including those with other providers,
// so that there is room for one more.
func (c *cookies) makeRoom(w http.ResponseWriter, r *http.Request) {
	type old struct {
		name  string
		begun int64
	}
	var all []old
	for _, cookie := range r.Cookies() {
		if strings.HasPrefix(cookie.Name, c.prefix) {
			begun, _, _ := strings.Cut(cookie.Value, ".")
			at, _ := strconv.ParseInt(begun, 36, 64) // What is no time is older than any.
			all = append(all, old{cookie.Name, at})
		}
	}
	slices.SortFunc(all, func(a, b old) int { return cmp.Compare(a.begun, b.begun) })
	for len(all) >= maxAttempts {
		http.SetCookie(w, c.cookie(all[0].name, "", -1))
		all = all[1:]
	}
}
