package awskms

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/smithy-go"

	"github.com/stayauth/stayauth/tokencache"
)

const maxCiphertext = 6144 // of Decrypt

// A Client is the part of *kms.Client that is used.
type Client interface {
	Encrypt(ctx context.Context, in *kms.EncryptInput, options ...func(*kms.Options)) (*kms.EncryptOutput, error)
	Decrypt(ctx context.Context, in *kms.DecryptInput, options ...func(*kms.Options)) (*kms.DecryptOutput, error)
}

// A Config says which key wraps, and who calls KMS.
type Config struct {
	// Client calls KMS. Required.
	Client Client

	// Key is the id, the ARN or the alias ("alias/logins") of the key that wraps, a
	// symmetric encryption key. Required.
	Key string

	// OldKeys are keys that wrapped before, and still unwrap: name them when an alias gets
	// another key, or when Key does. What KMS rotates by itself stays the same key. Default:
	// none.
	OldKeys []string
}

// A Wrapper wraps data keys with a key in AWS KMS. It is a tokencache.KeyWrapper.
type Wrapper struct {
	cfg Config
}

// New returns a Wrapper. It calls nobody.
func New(cfg Config) (*Wrapper, error) {
	if cfg.Client == nil {
		return nil, errors.New("awskms: Config.Client is missing")
	}
	cfg.OldKeys = slices.Clone(cfg.OldKeys)
	w := &Wrapper{cfg}
	if slices.Contains(w.keys(), "") {
		return nil, errors.New("awskms: Config.Key or one of OldKeys is empty")
	}
	return w, nil
}

func (w *Wrapper) keys() []string { return append([]string{w.cfg.Key}, w.cfg.OldKeys...) }

// String says, to people, which key wraps.
func (w *Wrapper) String() string { return "AWS KMS key " + w.cfg.Key }

// encryptionContext is authenticated with each data key, so that nothing else that was
// encrypted with the same key is taken for one. CloudTrail shows it, and policies may ask for it.
func encryptionContext() map[string]string {
	return map[string]string{"stayauth": "data key v1"}
}

// WrapKey implements tokencache.KeyWrapper. It wraps with Config.Key.
func (w *Wrapper) WrapKey(ctx context.Context, key []byte) (tokencache.WrappedKey, error) {
	out, err := w.cfg.Client.Encrypt(ctx, &kms.EncryptInput{
		KeyId: &w.cfg.Key, Plaintext: key, EncryptionContext: encryptionContext(),
	})
	if err != nil {
		return tokencache.WrappedKey{}, problem(ctx, "encrypt", w.cfg.Key, err)
	}
	return tokencache.WrappedKey{KeyID: keyID(aws.ToString(out.KeyId)), Data: out.CiphertextBlob}, nil
}

// UnwrapKey implements tokencache.KeyWrapper. It unwraps with Config.Key or one of OldKeys.
func (w *Wrapper) UnwrapKey(ctx context.Context, wrapped tokencache.WrappedKey) ([]byte, error) {
	if len(wrapped.Data) == 0 || len(wrapped.Data) > maxCiphertext {
		return nil, fmt.Errorf("awskms: decrypt: %w: the wrapped key has %d bytes", tokencache.ErrCorrupt, len(wrapped.Data))
	}
	var worst error
	for _, key := range w.keys() {
		// KMS could tell by itself which key that was, and would use every one that the
		// caller may use. So each call names the key.
		out, err := w.cfg.Client.Decrypt(ctx, &kms.DecryptInput{
			KeyId: &key, CiphertextBlob: wrapped.Data, EncryptionContext: encryptionContext(),
		})
		if err == nil {
			if id := keyID(aws.ToString(out.KeyId)); id != wrapped.KeyID {
				return nil, fmt.Errorf("awskms: decrypt: %w: the wrapped key is said to be of %.200q, and is of %s", tokencache.ErrCorrupt, wrapped.KeyID, id)
			}
			return out.Plaintext, nil
		}
		_, answered := errors.AsType[smithy.APIError](err)
		err = problem(ctx, "decrypt", key, err)
		// A key that cannot be used now may be the right one.
		if worst == nil || errors.Is(err, tokencache.ErrUnavailable) && !errors.Is(worst, tokencache.ErrUnavailable) {
			worst = err
		}
		if !answered {
			break // KMS will not answer for another key either.
		}
	}
	if errors.Is(worst, tokencache.ErrCorrupt) {
		return nil, fmt.Errorf("%w (it is said to be of key %.200q)", worst, wrapped.KeyID)
	}
	return nil, worst
}

// keyID returns the name of a key that is stored. The replicas of a multi-Region key are one
// key, or processes in two Regions would wrap everything anew in turn.
func keyID(arn string) string {
	part := strings.SplitN(arn, ":", 6) // arn:aws:kms:REGION:ACCOUNT:key/ID
	if len(part) == 6 && strings.HasPrefix(part[5], "key/mrk-") {
		part[3] = ""
	}
	return strings.Join(part, ":")
}
