package gcpkms

import (
	"context"
	"errors"
	"fmt"
	"hash/crc32"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/stayauth/stayauth/tokencache"
)

// additionalData is authenticated with each data key, so that nothing else that was encrypted
// with the same key is taken for one.
const additionalData = "stayauth data key v1"

// versions stands between the name of a key and that of its version.
const versions = "/cryptoKeyVersions/"

// A Config says which key wraps, and who calls Cloud KMS.
type Config struct {
	// Client calls the API with credentials, as google.DefaultClient does. Redirects are not
	// followed, whatever it says. Required.
	Client *http.Client

	// Key is the name of the key that wraps, without a version:
	// "projects/P/locations/L/keyRings/R/cryptoKeys/K". Its purpose is ENCRYPT_DECRYPT.
	// Required.
	Key string

	// OldKeys are keys that wrapped before, and still unwrap. Versions of one key need not be
	// listed. Default: none.
	OldKeys []string

	// Endpoint is where the API is, if not at "https://cloudkms.googleapis.com".
	Endpoint string
}

// A Wrapper wraps data keys with a key in Cloud KMS. It is a tokencache.KeyWrapper.
type Wrapper struct {
	cfg    Config
	base   string
	client http.Client
}

// New returns a Wrapper. It calls nobody.
func New(cfg Config) (*Wrapper, error) {
	if cfg.Client == nil {
		return nil, errors.New("gcpkms: Config.Client is missing")
	}
	if cfg.Endpoint == "" {
		cfg.Endpoint = "https://cloudkms.googleapis.com"
	}
	u, err := url.Parse(cfg.Endpoint)
	if err != nil || u.Host == "" || u.User != nil || u.RawQuery != "" || u.Fragment != "" || u.Scheme != "https" && (u.Scheme != "http" || !isLoopback(u.Hostname())) {
		return nil, errors.New("gcpkms: Config.Endpoint must be like https://cloudkms.googleapis.com: data keys are sent to it")
	}
	cfg.OldKeys = slices.Clone(cfg.OldKeys)
	for _, name := range append([]string{cfg.Key}, cfg.OldKeys...) {
		if !isKeyName(name) {
			return nil, fmt.Errorf("gcpkms: %q is not like projects/P/locations/L/keyRings/R/cryptoKeys/K", name)
		}
	}
	w := &Wrapper{cfg: cfg, base: u.JoinPath("v1").String(), client: *cfg.Client}
	w.client.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	return w, nil
}

func isLoopback(host string) bool {
	ip, err := netip.ParseAddr(host)
	return err == nil && ip.IsLoopback() || strings.EqualFold(host, "localhost")
}

// isKeyName reports whether name is that of a key, and safe in a URL.
func isKeyName(name string) bool {
	part := strings.Split(name, "/")
	if len(part) != 8 || len(name) > 900 || part[0] != "projects" || part[2] != "locations" || part[4] != "keyRings" || part[6] != "cryptoKeys" {
		return false
	}
	for _, p := range part {
		// The id of a project of a domain is like "example.com:project".
		if strings.Trim(p, ".") == "" || strings.ContainsFunc(p, func(r rune) bool {
			return !('a' <= r && r <= 'z' || 'A' <= r && r <= 'Z' || '0' <= r && r <= '9' || strings.ContainsRune("-_.:", r))
		}) {
			return false
		}
	}
	return true
}

// String says, to people, which key wraps.
func (w *Wrapper) String() string { return "Cloud KMS key " + w.cfg.Key }

// encrypted is the answer to encrypt.
type encrypted struct {
	Name             string
	Ciphertext       []byte
	CiphertextCrc32c checksum

	VerifiedPlaintextCrc32c                   bool
	VerifiedAdditionalAuthenticatedDataCrc32c bool
}

func (e encrypted) whole() bool {
	return e.VerifiedPlaintextCrc32c && e.VerifiedAdditionalAuthenticatedDataCrc32c && e.CiphertextCrc32c == sum(e.Ciphertext)
}

// decrypted is the answer to decrypt.
type decrypted struct {
	Plaintext       []byte
	PlaintextCrc32c checksum
}

func (d decrypted) whole() bool { return d.PlaintextCrc32c == sum(d.Plaintext) }

// WrapKey implements tokencache.KeyWrapper. It wraps with the primary version of Config.Key.
func (w *Wrapper) WrapKey(ctx context.Context, key []byte) (tokencache.WrappedKey, error) {
	got, err := call[encrypted](ctx, w, "encrypt", w.cfg.Key, "plaintext", key)
	if err != nil {
		return tokencache.WrappedKey{}, err
	}
	// The name may have the number of the project in the place of its id.
	_, version, ok := strings.Cut(got.Name, versions)
	if !ok || !isVersion(version) || len(got.Ciphertext) == 0 {
		return tokencache.WrappedKey{}, problem("encrypt", w.cfg.Key, tokencache.ErrUnavailable, notUnderstood)
	}
	return tokencache.WrappedKey{KeyID: w.cfg.Key + versions + version, Data: got.Ciphertext}, nil
}

// UnwrapKey implements tokencache.KeyWrapper. It unwraps with Config.Key or one of OldKeys.
func (w *Wrapper) UnwrapKey(ctx context.Context, wrapped tokencache.WrappedKey) ([]byte, error) {
	name, version, _ := strings.Cut(wrapped.KeyID, versions)
	if name != w.cfg.Key && !slices.Contains(w.cfg.OldKeys, name) {
		return nil, problem("decrypt", name, tokencache.ErrCorrupt, "the key is neither Config.Key nor one of OldKeys: add it there if it is yours")
	}
	if !isVersion(version) || len(wrapped.Data) == 0 {
		return nil, problem("decrypt", name, tokencache.ErrCorrupt, "the wrapped key is damaged")
	}
	got, err := call[decrypted](ctx, w, "decrypt", name, "ciphertext", wrapped.Data)
	if err != nil {
		return nil, err
	}
	return got.Plaintext, nil
}

func isVersion(s string) bool {
	return s != "" && len(s) < 20 && strings.Trim(s, "0123456789") == ""
}

// A checksum is a CRC32C, which the API writes as a decimal number in a string.
type checksum uint32

func sum(data []byte) checksum {
	return checksum(crc32.Checksum(data, crc32.MakeTable(crc32.Castagnoli)))
}

// MarshalText implements encoding.TextMarshaler.
func (c checksum) MarshalText() ([]byte, error) { return strconv.AppendUint(nil, uint64(c), 10), nil }

// UnmarshalText implements encoding.TextUnmarshaler.
func (c *checksum) UnmarshalText(text []byte) error {
	n, err := strconv.ParseUint(string(text), 10, 32)
	*c = checksum(n)
	return err
}
