package oskeyring

import (
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/stayauth/stayauth/tokencache"
)

// A KeyChoice is a place for the sealing key that the caller accepts; see
// Config.Accept. Make one with Keyring, KeyFile, Passphrase, PassphraseEnv,
// Credential or KeyFunc.
type KeyChoice struct {
	kind string
	open func(c *Config, d *dirs) keyStore
}

// Keyring keeps the key in the OS keyring.
func Keyring() KeyChoice {
	return KeyChoice{"OS keyring", func(c *Config, d *dirs) keyStore {
		k := &keyringKeys{
			keyring: c.keyring(d, d.suffix),
			lock: func(ctx context.Context) (func() error, error) {
				unlock, err := d.about.Lock(ctx, keyUser)
				if err != nil {
					err = besideError{err}
				}
				return unlock, err
			},
		}
		if d.former != d.suffix {
			k.former = c.keyring(d, d.former)
		}
		return k
	}}
}

// The files of keys beside the records.
const (
	keyFileName   = "sealing-key"
	sealedKeyName = "sealed-key"
)

// KeyFile keeps the key in a file, in the clear, as tokencache.KeyFile does. If path is "", the
// file is called sealing-key, beside the records: that protects against little more than a
// glance, and somebody who can write there can replace it, and make up logins that it opens.
func KeyFile(path string) KeyChoice {
	return KeyChoice{"key file", func(_ *Config, d *dirs) keyStore {
		path := path
		if path == "" {
			path = filepath.Join(d.path, keyFileName)
		}
		return newFileKeys(d, path, tokencache.KeyFile(path), true)
	}}
}

// Passphrase keeps the key in a file called sealed-key beside the records, sealed with a
// passphrase, as tokencache.PassphraseFile does. The function is called when the passphrase is
// needed: once in Open, if nothing better was found first.
func Passphrase(ask func(ctx context.Context) (tokencache.Secret, error)) KeyChoice {
	return KeyChoice{"passphrase", func(_ *Config, d *dirs) keyStore {
		path := filepath.Join(d.path, sealedKeyName)
		return newFileKeys(d, path, tokencache.PassphraseFile(path, asked(ask)), false)
	}}
}

// PassphraseEnv is Passphrase with the value of an environment variable, for programs that have
// nobody to ask. Child processes inherit the variable.
func PassphraseEnv(variable string) KeyChoice {
	return Passphrase(func(context.Context) (tokencache.Secret, error) {
		value := os.Getenv(variable)
		if value == "" {
			return "", fmt.Errorf("the environment variable %s is not set", variable)
		}
		return tokencache.Secret(value), nil
	})
}

// Credential reads the key from a credential that systemd hands to a service
// (LoadCredentialEncrypted=, $CREDENTIALS_DIRECTORY): 32 random bytes, or one or
// more lines with a key in base64 each, the newest first.
func Credential(name string) KeyChoice {
	return KeyFunc("systemd credential", func(context.Context) ([][]byte, error) { return readCredential(name) })
}

// KeyFunc gets the key from a function: from a key management service, for instance. It returns
// keys of 32 bytes, the newest first. The place is what Info calls it, and what the note of the
// choice holds.
func KeyFunc(place string, keys func(ctx context.Context) ([][]byte, error)) KeyChoice {
	if keys == nil {
		return KeyChoice{} // which Open refuses
	}
	return KeyChoice{place, func(*Config, *dirs) keyStore { return givenKeys(keys) }}
}

// An askedError is the error of a function that was to ask for a passphrase.
type askedError struct{ error }

func (e askedError) Unwrap() error { return e.error }

// asked marks the errors of a function that asks for a passphrase.
func asked(ask func(context.Context) (tokencache.Secret, error)) func(context.Context) (tokencache.Secret, error) {
	return func(ctx context.Context) (secret tokencache.Secret, err error) {
		if ask == nil {
			err = errors.New("there is no function that asks for it")
		} else if secret, err = ask(ctx); err == nil && secret == "" {
			err = errors.New("it is empty")
		}
		if err != nil {
			err = askedError{err}
		}
		return secret, err
	}
}

// fileKeys are kept by a key source of package tokencache, which makes a new key
// whenever it finds no file.
type fileKeys struct {
	path   string
	source tokencache.KeySource
	tokencache.KeyRotator

	beside bool // the file lies beside the records
	plain  bool // nothing but the file is needed
}

func newFileKeys(d *dirs, path string, source tokencache.KeySource, plain bool) keyStore {
	in, err := os.Stat(filepath.Dir(path))
	records, recordsErr := os.Stat(d.path)
	beside := err == nil && recordsErr == nil && os.SameFile(in, records)
	return fileKeys{path: path, source: source, KeyRotator: source.(tokencache.KeyRotator), beside: beside, plain: plain}
}

func (f fileKeys) keys(ctx context.Context) ([][]byte, error) {
	if _, err := os.Lstat(f.path); errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%s: %w", f.path, errNoKey)
	}
	return f.make(ctx, nil)
}

func (f fileKeys) make(ctx context.Context, _ [][]byte) ([][]byte, error) {
	keys, err := f.source.Keys(ctx)
	if _, unasked := errors.AsType[askedError](err); err != nil && f.beside && !unasked {
		err = besideError{err}
	}
	return keys, err
}

// givenKeys come from outside, where they are also rotated.
type givenKeys func(ctx context.Context) ([][]byte, error)

func (f givenKeys) keys(ctx context.Context) ([][]byte, error) { return f(ctx) }

func (f givenKeys) make(ctx context.Context, _ [][]byte) ([][]byte, error) { return f(ctx) }

func (givenKeys) AddKey(context.Context) error {
	return fmt.Errorf("%w: put a new key in front where this one comes from", errors.ErrUnsupported)
}

func (g givenKeys) DropOldKeys(ctx context.Context) error { return g.AddKey(ctx) }

const maxCredential = 64 << 10

func readCredential(name string) ([][]byte, error) {
	dir := os.Getenv("CREDENTIALS_DIRECTORY")
	if dir == "" {
		return nil, errors.New("$CREDENTIALS_DIRECTORY is not set: this is no service with credentials")
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, err
	}
	defer root.Close()
	f, err := root.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxCredential+1))
	if err != nil {
		return nil, err
	}
	keys, err := parseKeys(data)
	if err != nil {
		return nil, fmt.Errorf("credential %q: %w", name, err)
	}
	return keys, nil
}

// parseKeys reads one raw key, or lines of base64.
func parseKeys(data []byte) ([][]byte, error) {
	if len(data) == keySize {
		return [][]byte{data}, nil
	}
	var keys [][]byte
	for line := range bytes.Lines(data) {
		line = bytes.TrimSpace(line)
		if len(line) == 0 {
			continue
		}
		key, err := base64.StdEncoding.AppendDecode(nil, line)
		if err != nil || len(key) != keySize || len(data) > maxCredential {
			return nil, fmt.Errorf("want %d bytes, or lines of %d bytes in base64", keySize, keySize)
		}
		keys = append(keys, key)
	}
	if len(keys) == 0 {
		return nil, errors.New("it is empty")
	}
	return keys, nil
}
