package awskms_test

import (
	"context"
	"errors"
	"flag"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/kms"

	"github.com/stayauth/stayauth/testdata/realparts"
	"github.com/stayauth/stayauth/testdata/realparts/keycheck"
	"github.com/stayauth/stayauth/tokencache"
	"github.com/stayauth/stayauth/tokencache/awskms"
)

var records = flag.Int("records", 100, "how many logins there are")

func newClient(server *realparts.LocalKMS) *kms.Client {
	return kms.New(kms.Options{
		Region: "eu-west-1", BaseEndpoint: aws.String(server.URL()),
		Credentials: credentials.NewStaticCredentialsProvider("id", "a secret of forty characters, as AWS has", ""),
	})
}

func newKey(t *testing.T, client *kms.Client) (id, arn string) {
	t.Helper()
	key, err := client.CreateKey(t.Context(), &kms.CreateKeyInput{})
	must(t, err)
	return *key.KeyMetadata.KeyId, *key.KeyMetadata.Arn
}

func mustNew(t *testing.T, cfg awskms.Config) *awskms.Wrapper {
	t.Helper()
	w, err := awskms.New(cfg)
	must(t, err)
	return w
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func TestServer(t *testing.T) {
	t.Parallel()
	server := realparts.StartLocalKMS(t)
	client := newClient(server)
	for name, test := range map[string]func(t *testing.T, client *kms.Client){
		"wrap and unwrap": wrapAndUnwrap, "KMS rotates the key": keyIsRotated, "an alias gets another key": aliasMoves,
		"the key cannot be used": unusableKey, "the wrong encryption context": otherContext,
	} {
		t.Run(name, func(t *testing.T) { test(t, client) })
	}
}

func wrapAndUnwrap(t *testing.T, client *kms.Client) {
	id, arn := newKey(t, client)
	for _, name := range []string{id, arn} {
		w := mustNew(t, awskms.Config{Client: client, Key: name})
		if _, wrapped := keycheck.Wrap(t, w); wrapped.KeyID != arn {
			t.Errorf("wrapped with %q", wrapped.KeyID)
		}
		keycheck.Damaged(t, w)
	}
}

// The id stays, so nothing is wrapped anew, and need not be: older material is never destroyed
// without the key.
func keyIsRotated(t *testing.T, client *kms.Client) {
	id, _ := newKey(t, client)
	w := mustNew(t, awskms.Config{Client: client, Key: id})
	key, old := keycheck.Wrap(t, w)
	_, err := client.RotateKeyOnDemand(t.Context(), &kms.RotateKeyOnDemandInput{KeyId: &id})
	must(t, err)
	newKey, wrapped := keycheck.Wrap(t, w)
	if wrapped.KeyID != old.KeyID {
		t.Errorf("%s has become %s", old.KeyID, wrapped.KeyID)
	}
	keycheck.Unwraps(t, w, old, key)
	keycheck.Unwraps(t, w, wrapped, newKey)
}

// A key is never used only because the store names it.
func aliasMoves(t *testing.T, client *kms.Client) {
	oldID, oldARN := newKey(t, client)
	newID, newARN := newKey(t, client)
	_, err := client.CreateAlias(t.Context(), &kms.CreateAliasInput{AliasName: aws.String("alias/logins"), TargetKeyId: &oldID})
	must(t, err)
	w := mustNew(t, awskms.Config{Client: client, Key: "alias/logins"})
	key, old := keycheck.Wrap(t, w)
	if old.KeyID != oldARN {
		t.Errorf("wrapped with %s", old.KeyID)
	}
	_, err = client.UpdateAlias(t.Context(), &kms.UpdateAliasInput{AliasName: aws.String("alias/logins"), TargetKeyId: &newID})
	must(t, err)
	if _, err := w.UnwrapKey(t.Context(), old); !errors.Is(err, tokencache.ErrCorrupt) {
		t.Errorf("a key that is not configured has unwrapped: %v", err)
	}

	w = mustNew(t, awskms.Config{Client: client, Key: "alias/logins", OldKeys: []string{oldID}})
	keycheck.Unwraps(t, w, old, key)
	if _, wrapped := keycheck.Wrap(t, w); wrapped.KeyID != newARN {
		t.Errorf("wrapped with %s, want %s", wrapped.KeyID, newARN)
	}
	if _, err := w.UnwrapKey(t.Context(), tokencache.WrappedKey{KeyID: newARN, Data: old.Data}); !errors.Is(err, tokencache.ErrCorrupt) {
		t.Errorf("what an old key has wrapped is taken for the new one's: %v", err)
	}

	// While the old key cannot be used, nobody can say that the data is damaged.
	_, err = client.DisableKey(t.Context(), &kms.DisableKeyInput{KeyId: &oldID})
	must(t, err)
	keycheck.CannotUnwrap(t, w, old, "the key is disabled")
	keycheck.Wrap(t, w)
	_, err = client.EnableKey(t.Context(), &kms.EnableKeyInput{KeyId: &oldID})
	must(t, err)
	keycheck.Unwraps(t, w, old, key)
}

func unusableKey(t *testing.T, client *kms.Client) {
	id, _ := newKey(t, client)
	w := mustNew(t, awskms.Config{Client: client, Key: id})
	key, wrapped := keycheck.Wrap(t, w)
	_, err := client.DisableKey(t.Context(), &kms.DisableKeyInput{KeyId: &id})
	must(t, err)
	keycheck.Unavailable(t, w, wrapped, "enable it")
	_, err = client.EnableKey(t.Context(), &kms.EnableKeyInput{KeyId: &id})
	must(t, err)
	keycheck.Unwraps(t, w, wrapped, key)

	_, err = client.ScheduleKeyDeletion(t.Context(), &kms.ScheduleKeyDeletionInput{KeyId: &id, PendingWindowInDays: aws.Int32(7)})
	must(t, err)
	keycheck.Unavailable(t, w, wrapped, "cancel the deletion")
	_, err = client.CancelKeyDeletion(t.Context(), &kms.CancelKeyDeletionInput{KeyId: &id})
	must(t, err)
	_, err = client.EnableKey(t.Context(), &kms.EnableKeyInput{KeyId: &id})
	must(t, err)
	keycheck.Unwraps(t, w, wrapped, key)

	keycheck.Unavailable(t, mustNew(t, awskms.Config{Client: client, Key: "alias/nothing"}), wrapped, "no such key")
}

// What was encrypted with the same key for another purpose is no data key.
func otherContext(t *testing.T, client *kms.Client) {
	id, arn := newKey(t, client)
	out, err := client.Encrypt(t.Context(), &kms.EncryptInput{KeyId: &id, Plaintext: keycheck.NewKey()})
	must(t, err)
	_, err = mustNew(t, awskms.Config{Client: client, Key: id}).UnwrapKey(t.Context(), tokencache.WrappedKey{KeyID: arn, Data: out.CiphertextBlob})
	if !errors.Is(err, tokencache.ErrCorrupt) {
		t.Errorf("something else was unwrapped: %v", err)
	}
}

// An outage is ErrUnavailable; when it is over, what was wrapped before opens.
func TestOutages(t *testing.T) {
	t.Parallel()
	server := realparts.StartLocalKMS(t)
	client := newClient(server)
	id, _ := newKey(t, client)
	w := mustNew(t, awskms.Config{Client: client, Key: id})
	key, wrapped := keycheck.Wrap(t, w)

	server.Freeze()
	keycheck.NoAnswer(t, w, wrapped)
	server.Thaw()
	keycheck.Unwraps(t, w, wrapped, key)

	server.Crash()
	keycheck.Unavailable(t, w, wrapped, "connection refused")
	server.Start()
	keycheck.Unwraps(t, w, wrapped, key)
}

// What logins cost, and what becomes of them.
func TestLogins(t *testing.T) {
	t.Parallel()
	server := realparts.StartLocalKMS(t)
	client := newClient(server)
	oldID, _ := newKey(t, client)
	newID, _ := newKey(t, client)
	_, err := client.CreateAlias(t.Context(), &kms.CreateAliasInput{AliasName: aws.String("alias/logins"), TargetKeyId: &oldID})
	must(t, err)
	keycheck.Cache(t, mustNew(t, awskms.Config{Client: client, Key: "alias/logins", OldKeys: []string{oldID}}), keycheck.Service{
		Rotate: func() {
			_, err := client.UpdateAlias(t.Context(), &kms.UpdateAliasInput{AliasName: aws.String("alias/logins"), TargetKeyId: &newID})
			must(t, err)
		},
		Retire: func() {
			_, err := client.ScheduleKeyDeletion(t.Context(), &kms.ScheduleKeyDeletionInput{KeyId: &oldID, PendingWindowInDays: aws.Int32(7)})
			must(t, err)
		},
		Down: server.Crash,
		Up:   server.Start,
	}, *records)
}

func TestNoCredentials(t *testing.T) {
	w := mustNew(t, awskms.Config{Key: "alias/logins", Client: kms.New(kms.Options{
		Region: "eu-west-1", BaseEndpoint: aws.String("http://127.0.0.1:1"),
		Credentials: aws.CredentialsProviderFunc(func(context.Context) (aws.Credentials, error) {
			return aws.Credentials{}, errors.New("s3cret")
		}),
	})})
	keycheck.Unavailable(t, w, tokencache.WrappedKey{KeyID: "key", Data: []byte("data")}, "no credentials")
}
