package awskms_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/smithy-go"

	"github.com/stayauth/stayauth/testdata/realparts/keycheck"
	"github.com/stayauth/stayauth/tokencache"
	"github.com/stayauth/stayauth/tokencache/awskms"
)

// A fake answers what a test wants.
type fake struct {
	arn   string // of the key that answers
	fails func(ctx context.Context, key string, data []byte) error
	asked []string
}

func (f *fake) Encrypt(ctx context.Context, in *kms.EncryptInput, _ ...func(*kms.Options)) (*kms.EncryptOutput, error) {
	f.asked = append(f.asked, "encrypt "+*in.KeyId)
	if err := f.fails(ctx, *in.KeyId, in.Plaintext); err != nil {
		return nil, err
	}
	return &kms.EncryptOutput{KeyId: &f.arn, CiphertextBlob: append([]byte("wrapped "), in.Plaintext...)}, nil
}

func (f *fake) Decrypt(ctx context.Context, in *kms.DecryptInput, _ ...func(*kms.Options)) (*kms.DecryptOutput, error) {
	f.asked = append(f.asked, "decrypt "+*in.KeyId)
	if err := f.fails(ctx, *in.KeyId, in.CiphertextBlob); err != nil {
		return nil, err
	}
	return &kms.DecryptOutput{KeyId: &f.arn, Plaintext: []byte("key")}, nil
}

// says is an error of KMS that repeats what it was sent.
func says(code string) func(ctx context.Context, key string, data []byte) error {
	return func(_ context.Context, _ string, data []byte) error {
		return &smithy.OperationError{ServiceID: "KMS", OperationName: "Decrypt",
			Err: &smithy.GenericAPIError{Code: code, Message: fmt.Sprintf("value %s failed, %v, %[1]x", data, data)}}
	}
}

var wrappedKey = tokencache.WrappedKey{KeyID: "arn:aws:kms:eu-west-1:111122223333:key/1", Data: []byte("a wrapped key")}

func TestErrorsOfKMS(t *testing.T) {
	for code, text := range map[string]string{
		"AccessDeniedException":       "policies of the key and of the role",
		"DisabledException":           "enable it",
		"KMSInvalidStateException":    "cancel the deletion",
		"KeyUnavailableException":     "not available now",
		"NotFoundException":           "no such key",
		"InvalidArnException":         "name of the key",
		"InvalidKeyUsageException":    "no symmetric encryption key",
		"ThrottlingException":         "rate of requests",
		"ExpiredTokenException":       "have expired",
		"UnrecognizedClientException": "not valid",
		"KMSInternalException":        "KMS says KMSInternalException",
		"DependencyTimeoutException":  "KMS says DependencyTimeoutException",
		"value 'a wrapped key'":       "an error without a code",
	} {
		t.Run(code, func(t *testing.T) {
			w := mustNew(t, awskms.Config{Client: &fake{fails: says(code)}, Key: "alias/logins"})
			keycheck.Unavailable(t, w, wrappedKey, text)
		})
	}
	for _, code := range []string{"InvalidCiphertextException", "IncorrectKeyException"} {
		w := mustNew(t, awskms.Config{Client: &fake{fails: says(code)}, Key: "alias/logins"})
		_, err := w.UnwrapKey(t.Context(), wrappedKey)
		if !errors.Is(err, tokencache.ErrCorrupt) || errors.Is(err, tokencache.ErrUnavailable) {
			t.Errorf("%s: %v", code, err)
		}
		keycheck.Silent(t, err, nil, wrappedKey)
	}
}

// Each key is asked in turn; what cannot be used now weighs more than what does not fit; and a
// KMS that is not there is not asked again for each key.
func TestOldKeys(t *testing.T) {
	for _, tt := range []struct {
		what  string
		fails map[string]string
		kind  error
		asked int
	}{
		{"the newest", map[string]string{}, nil, 1},
		{"an old one", map[string]string{"new": "IncorrectKeyException"}, nil, 2},
		{"an old one, and the new one is disabled", map[string]string{"new": "DisabledException"}, nil, 2},
		{"none", map[string]string{"new": "IncorrectKeyException", "old": "IncorrectKeyException", "older": "IncorrectKeyException"}, tokencache.ErrCorrupt, 3},
		{"perhaps the disabled one", map[string]string{"new": "IncorrectKeyException", "old": "DisabledException", "older": "IncorrectKeyException"}, tokencache.ErrUnavailable, 3},
		{"KMS does not answer", map[string]string{"new": "no answer"}, tokencache.ErrUnavailable, 1},
	} {
		client := &fake{arn: wrappedKey.KeyID}
		client.fails = func(ctx context.Context, key string, data []byte) error {
			if code := tt.fails[key]; code == "no answer" {
				return errors.New(code)
			} else if code != "" {
				return says(code)(ctx, key, data)
			}
			return nil
		}
		w := mustNew(t, awskms.Config{Client: client, Key: "new", OldKeys: []string{"old", "older"}})
		_, err := w.UnwrapKey(t.Context(), wrappedKey)
		if !errors.Is(err, tt.kind) || len(client.asked) != tt.asked {
			t.Errorf("%s: %v\nasked: %v", tt.what, err, client.asked)
		}
	}
}

// A caller waits no longer than it said, however many keys there are.
func TestSilentKMS(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		client := &fake{fails: func(ctx context.Context, _ string, _ []byte) error { <-ctx.Done(); return ctx.Err() }}
		w := mustNew(t, awskms.Config{Client: client, Key: "new", OldKeys: []string{"old"}})
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		defer cancel()
		begun := time.Now()
		_, err := w.UnwrapKey(ctx, wrappedKey)
		keycheck.CannotUse(t, err, "deadline exceeded")
		if took := time.Since(begun); took != 5*time.Second || !slices.Equal(client.asked, []string{"decrypt new"}) {
			t.Errorf("it took %v, and asked %v", took, client.asked)
		}
	})
}

// Processes in two Regions share one store: neither wraps anew what the other has wrapped.
func TestMultiRegionKey(t *testing.T) {
	none := func(context.Context, string, []byte) error { return nil }
	in := func(region string) *awskms.Wrapper {
		return mustNew(t, awskms.Config{Key: "alias/logins", Client: &fake{arn: "arn:aws:kms:" + region + ":111122223333:key/mrk-1", fails: none}})
	}
	here, err := in("eu-west-1").WrapKey(t.Context(), keycheck.NewKey())
	must(t, err)
	there, err := in("us-east-1").WrapKey(t.Context(), keycheck.NewKey())
	must(t, err)
	if here.KeyID != there.KeyID {
		t.Errorf("one key has two names: %s and %s", here.KeyID, there.KeyID)
	}
	_, err = in("us-east-1").UnwrapKey(t.Context(), here)
	must(t, err)
}

func TestNew(t *testing.T) {
	for _, cfg := range []awskms.Config{{Key: "k"}, {Client: &fake{}}, {Client: &fake{}, Key: "k", OldKeys: []string{""}}} {
		if _, err := awskms.New(cfg); err == nil {
			t.Errorf("New takes %+v", cfg)
		}
	}
}

// Whoever can write to the store chooses what is unwrapped.
func FuzzUnwrapKey(f *testing.F) {
	f.Add(wrappedKey.KeyID, wrappedKey.Data)
	f.Add("", []byte(nil))
	f.Add("arn:aws:kms:x:y:key/mrk-1", []byte("data"))
	f.Fuzz(func(t *testing.T, id string, data []byte) {
		client := &fake{arn: wrappedKey.KeyID, fails: func(context.Context, string, []byte) error { return nil }}
		w := mustNew(t, awskms.Config{Client: client, Key: "alias/logins"})
		key, err := w.UnwrapKey(t.Context(), tokencache.WrappedKey{KeyID: id, Data: data})
		if (err == nil) != (string(key) == "key") || (err == nil) != (id == wrappedKey.KeyID && len(data) > 0 && len(data) <= 6144) || err != nil && !errors.Is(err, tokencache.ErrCorrupt) {
			t.Errorf("%q, %v", key, err)
		}
	})
}
