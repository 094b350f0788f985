package dpop

import (
	"context"
	"crypto"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/stayauth/stayauth/transport/internal/origin"
)

// claims are those of a proof (RFC 9449 section 4.2).
type claims struct {
	ID     string `json:"jti"`
	Method string `json:"htm"`
	URL    string `json:"htu"`
	At     int64  `json:"iat"`
	Hash   string `json:"ath,omitempty"`
	Nonce  string `json:"nonce,omitempty"`
}

// A Said is what a proof has said that the server may see differently.
type Said struct {
	origin string
	nonce  string
	ahead  time.Duration
	at     time.Time
}

// Prove sets the header DPoP of a request that is about to be sent, with the access token if it
// is not empty. Each proof is good for one request, so each repetition needs a new one. No
// lock is held while the key signs, and a key that is elsewhere is not waited for longer than
// ctx allows. After an error the request must not be sent.
func (s *Servers) Prove(ctx context.Context, k *Key, req *http.Request, accessToken string) (Said, error) {
	from, path := target(req)
	said := s.at(from)
	c := claims{ID: rand.Text(), Method: req.Method, URL: from + path, At: said.at.Add(said.ahead).Unix(), Nonce: said.nonce}
	if c.Method == "" {
		c.Method = http.MethodGet // as net/http sends it
	}
	if accessToken != "" { // Section 7: only with an access token.
		sum := sha256.Sum256([]byte(accessToken))
		c.Hash = base64.RawURLEncoding.EncodeToString(sum[:])
	}
	proof, err := s.sign(ctx, k, &c)
	if err != nil {
		return said, err
	}
	delete(req.Header, "DPoP") // as programs spell it that fill the map themselves
	req.Header["Dpop"] = []string{proof}
	return said, nil
}

func (s *Servers) sign(ctx context.Context, k *Key, c *claims) (string, error) {
	if k.local {
		return k.sign(c)
	}
	proof := make(chan string, 1)
	err := s.calls.Do(ctx, func(context.Context) error {
		signed, err := k.signer.Sign(c)
		proof <- signed
		return err
	})
	if err != nil {
		return "", err
	}
	return <-proof, nil
}

// sign signs with a key that is in the memory of this process. One without its private half panics.
func (k *Key) sign(c *claims) (proof string, err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("the key cannot sign: it has panicked with a %T", p)
		}
	}()
	return k.signer.Sign(c)
}

// Find returns what find of the program does: that may ask a key service, so it may hang or panic.
func (s *Servers) Find(ctx context.Context, thumbprint string, find func(context.Context, string) (crypto.Signer, error)) (crypto.Signer, error) {
	found := make(chan crypto.Signer, 1)
	err := s.calls.Do(ctx, func(ctx context.Context) error {
		signer, err := find(ctx, thumbprint)
		found <- signer
		return err
	})
	if err != nil {
		return nil, err
	}
	return <-found, nil
}

// NewKey is NewKey for a key that may have to ask a key service which one it is. unfit says
// that it is of no use, and err that this cannot be found out now.
func (s *Servers) NewKey(ctx context.Context, signer crypto.Signer) (k *Key, unfit, err error) {
	if isLocal(signer) {
		k, unfit = NewKey(signer)
		return k, unfit, nil
	}
	type result struct {
		key   *Key
		unfit error
	}
	made := make(chan result, 1)
	err = s.calls.Do(ctx, func(context.Context) error {
		k, unfit := NewKey(signer)
		made <- result{k, unfit}
		return nil
	})
	if err != nil {
		return nil, nil, err
	}
	r := <-made
	return r.key, r.unfit, nil
}

// target returns the origin and the path of a request as they are sent: with the Host that the
// program has set (net/http.Request), in the normal form of RFC 9449 section 4.3, and without
// query, fragment and user.
func target(req *http.Request) (from, path string) {
	u := req.URL
	path = u.EscapedPath()
	host, port := u.Hostname(), u.Port()
	if rest, ok := strings.CutPrefix(u.Opaque, "//"); ok { // see url.URL.RequestURI
		if opaque, err := url.Parse(u.Scheme + "://" + rest); err == nil {
			path, host, port = opaque.EscapedPath(), opaque.Hostname(), opaque.Port()
		}
	} else if u.Opaque != "" {
		path, _, _ = strings.Cut(u.Opaque, "?")
	}
	if req.Host != "" && req.Host != u.Host {
		named := url.URL{Host: req.Host}
		host, port = named.Hostname(), named.Port()
	}
	if path == "" {
		path = "/"
	}
	scheme := strings.ToLower(u.Scheme)
	return scheme + "://" + origin.NormalizeHost(scheme, host, port), path
}
