package vaulttransit

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"net/url"
	"os"
	"slices"
	"strings"

	"github.com/stayauth/stayauth/tokencache"
)

// associatedData is authenticated with each data key, so that nothing else that was encrypted
// with the same key is taken for one.
const associatedData = "stayauth data key v1"

// A Config says which key wraps, and how it is reached.
type Config struct {
	// Address is that of the server, or of an agent or proxy before it, such as
	// "https://vault.internal:8200". It must be https, because data keys are sent to it, or
	// a loopback address. Required.
	Address string

	// Key is the name of the key that wraps. Required.
	Key string

	// OldKeys are the names of keys that wrapped before, and still unwrap. Versions of one
	// key need not be listed. Default: none.
	OldKeys []string

	// Mount is where the transit engine is mounted. Default: "transit".
	Mount string

	// Namespace is that of the mount. Default: the root namespace, or that of Address.
	Namespace string

	// Token returns the token for a call, and is asked before each, because tokens have to
	// be renewed. See TokenFile. Default: none, for an agent that adds its own.
	Token func(ctx context.Context) (tokencache.Secret, error)

	// Client sends the requests. Redirects are not followed, whatever it says. Default: one
	// that trusts the authorities of the machine.
	Client *http.Client
}

// A Wrapper wraps data keys with a transit key. It is a tokencache.KeyWrapper.
type Wrapper struct {
	cfg    Config
	base   string // the URL of the mount
	client *http.Client
}

// New returns a Wrapper. It calls nobody.
func New(cfg Config) (*Wrapper, error) {
	u, err := url.Parse(cfg.Address)
	switch {
	case err != nil, u.Host == "", u.User != nil, u.RawQuery != "", u.Fragment != "":
		return nil, errors.New("vaulttransit: Config.Address must be like https://vault.internal:8200")
	case u.Scheme != "https" && (u.Scheme != "http" || !isLoopback(u.Hostname())):
		return nil, errors.New("vaulttransit: Config.Address must be https, or http on a loopback address: data keys are sent to it")
	}
	if cfg.Mount = strings.Trim(cfg.Mount, "/"); cfg.Mount == "" {
		cfg.Mount = "transit"
	}
	cfg.OldKeys = slices.Clone(cfg.OldKeys)
	for _, name := range append([]string{cfg.Key}, cfg.OldKeys...) {
		if name == "" || len(name) > 512 || url.PathEscape(name) != name || strings.Contains(name, ":") || strings.Trim(name, ".") == "" {
			return nil, fmt.Errorf("vaulttransit: %q is not the name of a transit key", name)
		}
	}
	w := &Wrapper{cfg: cfg, base: u.JoinPath("v1", cfg.Mount).String(), client: new(http.Client)}
	if cfg.Client != nil {
		*w.client = *cfg.Client
	}
	w.client.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	return w, nil
}

func isLoopback(host string) bool {
	ip, err := netip.ParseAddr(host)
	return err == nil && ip.IsLoopback() || strings.EqualFold(host, "localhost")
}

// TokenFile returns a function for Config.Token that reads the file which an agent keeps the
// token in.
func TokenFile(name string) func(ctx context.Context) (tokencache.Secret, error) {
	return func(context.Context) (tokencache.Secret, error) {
		token, err := os.ReadFile(name)
		return tokencache.Secret(strings.TrimSpace(string(token))), err
	}
}

// String says, to people, which key wraps.
func (w *Wrapper) String() string { return "transit key " + w.cfg.Key + " of " + w.base }

// WrapKey implements tokencache.KeyWrapper. It wraps with the newest version of Config.Key.
func (w *Wrapper) WrapKey(ctx context.Context, key []byte) (tokencache.WrappedKey, error) {
	var answer struct{ Ciphertext string }
	err := w.call(ctx, "encrypt", w.cfg.Key, map[string]string{"plaintext": base64.StdEncoding.EncodeToString(key)}, &answer)
	if err != nil {
		return tokencache.WrappedKey{}, err
	}
	version, ok := versionOf(answer.Ciphertext)
	if !ok {
		return tokencache.WrappedKey{}, problem("encrypt", w.cfg.Key, tokencache.ErrUnavailable, notUnderstood)
	}
	return tokencache.WrappedKey{KeyID: w.cfg.Key + ":v" + version, Data: []byte(answer.Ciphertext)}, nil
}

// UnwrapKey implements tokencache.KeyWrapper. It unwraps with Config.Key or one of OldKeys.
func (w *Wrapper) UnwrapKey(ctx context.Context, wrapped tokencache.WrappedKey) ([]byte, error) {
	name, version, _ := strings.Cut(wrapped.KeyID, ":v")
	if name != w.cfg.Key && !slices.Contains(w.cfg.OldKeys, name) {
		return nil, problem("decrypt", name, tokencache.ErrCorrupt, "the key is neither Config.Key nor one of OldKeys: add it there if it is yours")
	}
	if v, ok := versionOf(string(wrapped.Data)); !ok || v != version {
		return nil, problem("decrypt", name, tokencache.ErrCorrupt, "the wrapped key is damaged")
	}
	var answer struct{ Plaintext string }
	if err := w.call(ctx, "decrypt", name, map[string]string{"ciphertext": string(wrapped.Data)}, &answer); err != nil {
		return nil, err
	}
	key, err := base64.StdEncoding.DecodeString(answer.Plaintext)
	if err != nil || len(key) == 0 {
		return nil, problem("decrypt", name, tokencache.ErrUnavailable, notUnderstood)
	}
	return key, nil
}

// versionOf returns the version of the key that made a ciphertext, "vault:v3:...".
func versionOf(ciphertext string) (version string, ok bool) {
	rest, ok := strings.CutPrefix(ciphertext, "vault:v")
	if !ok {
		return "", false
	}
	version, data, ok := strings.Cut(rest, ":")
	digits := version != "" && strings.Trim(version, "0123456789") == ""
	return version, ok && digits && len(version) < 10 && data != ""
}
