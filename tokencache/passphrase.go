package tokencache

import (
	"bytes"
	"context"
	"crypto/pbkdf2"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
	"slices"

	"github.com/stayauth/stayauth/tokencache/gate"
)

// PassphraseFile returns a source that keeps its keys in the file at path, sealed with a key
// derived from a passphrase (PBKDF2 with SHA-256, 600 000 iterations). The file is created when
// a key is first needed, with the passphrase given then. The function is called when the
// passphrase is needed, and again only if it failed or the passphrase was wrong; a wrong one is
// an ErrCorrupt and changes nothing. The source is a KeyRotator.
func PassphraseFile(path string, passphrase func(ctx context.Context) (Secret, error)) KeySource {
	return newKeyFile(path, &passphraseKeys{ask: passphrase, iterations: pbkdf2Iterations})
}

const (
	pbkdf2Name       = "pbkdf2-sha-256"
	pbkdf2Iterations = 600_000    // recommended by OWASP since 2023, about 0.2 s
	maxIterations    = 10_000_000 // some seconds; a file that asks for more is not ours
	saltSize         = 16
)

// passphraseKeys seals keys with a passphrase. It remembers the derived key, not the
// passphrase, so that the user is asked only once.
type passphraseKeys struct {
	ask        func(ctx context.Context) (Secret, error)
	iterations int // for new files

	gate    gate.Gates
	derived *derivedKey
}

// A derivedKey is the key that a passphrase and a salt give.
type derivedKey struct {
	iterations int
	salt       []byte
	key        hidden[[]byte]
}

func (p *passphraseKeys) encode(ctx context.Context, keys [][]byte) (*keyFileContent, error) {
	leave, err := p.gate.Enter(ctx, "")
	if err != nil {
		return nil, err
	}
	defer leave()
	if p.derived == nil {
		salt := make([]byte, saltSize)
		rand.Read(salt)
		if p.derived, err = p.derive(ctx, p.iterations, salt); err != nil {
			return nil, err
		}
	}
	d := p.derived
	aead, err := newGCM(d.key())
	if err != nil {
		return nil, err
	}
	return &keyFileContent{
		V:          keyFileVersion,
		KDF:        pbkdf2Name,
		Iterations: d.iterations,
		Salt:       d.salt,
		Sealed:     aead.Seal(nil, nil, slices.Concat(keys...), d.aad()),
	}, nil
}

func (p *passphraseKeys) decode(ctx context.Context, c *keyFileContent) ([][]byte, error) {
	switch {
	case c.KDF == "" && len(c.Keys) > 0:
		return nil, fmt.Errorf("%w: its keys are not protected by a passphrase: open it with KeyFile", ErrCorrupt)
	case c.KDF != pbkdf2Name || c.Iterations < 1 || c.Iterations > maxIterations || len(c.Salt) < saltSize:
		return nil, fmt.Errorf("%w: it is not sealed as this version of stayauth does it", ErrCorrupt)
	}
	leave, err := p.gate.Enter(ctx, "")
	if err != nil {
		return nil, err
	}
	defer leave()
	d := p.derived
	if d == nil || d.iterations != c.Iterations || !bytes.Equal(d.salt, c.Salt) {
		if d, err = p.derive(ctx, c.Iterations, c.Salt); err != nil {
			return nil, err
		}
	}
	aead, err := newGCM(d.key())
	if err != nil {
		return nil, err
	}
	plain, err := aead.Open(nil, nil, c.Sealed, d.aad())
	if err != nil || len(plain) == 0 {
		return nil, fmt.Errorf("%w: the passphrase is wrong, or the file is damaged; nothing was changed", ErrCorrupt)
	}
	p.derived = d
	return slices.Collect(slices.Chunk(plain, keySize)), nil
}

// derive asks for the passphrase and derives a key from it.
func (p *passphraseKeys) derive(ctx context.Context, iterations int, salt []byte) (*derivedKey, error) {
	if p.ask == nil {
		return nil, fmt.Errorf("%w: PassphraseFile was given no function that asks for the passphrase", ErrUnavailable)
	}
	secret, err := p.ask(ctx)
	if err == nil && secret == "" {
		err = errors.New("it is empty")
	}
	if err != nil {
		return nil, fmt.Errorf("%w: no passphrase: %w", ErrUnavailable, err)
	}
	type result struct {
		key []byte
		err error
	}
	derived := make(chan result, 1)
	go func() {
		key, err := pbkdf2.Key(sha256.New, string(secret), salt, iterations, keySize)
		derived <- result{key, err}
	}()
	select {
	case r := <-derived:
		if r.err != nil {
			return nil, r.err
		}
		return &derivedKey{iterations: iterations, salt: salt, key: hide(r.key)}, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

func (d *derivedKey) aad() []byte {
	return fmt.Appendf(nil, "stayauth key file v1\n%s %d %x", pbkdf2Name, d.iterations, d.salt)
}
