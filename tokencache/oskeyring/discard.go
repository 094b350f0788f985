package oskeyring

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/stayauth/stayauth/tokencache"
)

// Discard removes all logins of the application without opening any, for when Open says that
// their key is gone for good, because the keyring was recreated or a passphrase is forgotten.
// It also removes the key files beside them. The next Open starts over. At their providers the
// logins live on.
func (c Config) Discard(ctx context.Context) error {
	d, err := c.prepare()
	if err != nil {
		return err
	}
	unlock, err := d.records.Lock(ctx, newEntriesLock) // Nobody chooses a key meanwhile.
	if err != nil {
		return err
	}
	defer unlock()
	var failed []error
	for name, err := range d.records.List(ctx, "") {
		if err == nil {
			err = discard(ctx, d.records, name)
		}
		failed = append(failed, err)
	}
	if errors.Join(failed...) == nil {
		// They no longer seal anything, and a passphrase may be forgotten.
		for _, file := range []string{keyFileName, sealedKeyName} {
			if err := os.Remove(filepath.Join(d.path, file)); err != nil && !errors.Is(err, fs.ErrNotExist) {
				failed = append(failed, err)
			}
		}
	}
	return errors.Join(failed...)
}

// discard removes an entry, even if that changes meanwhile.
func discard(ctx context.Context, store tokencache.Store, name string) error {
	for {
		_, v, err := store.Load(ctx, name)
		if err == nil {
			err = store.Delete(ctx, name, v)
		}
		switch {
		case errors.Is(err, tokencache.ErrNotFound):
			return nil
		case !errors.Is(err, tokencache.ErrConflict):
			return err
		}
	}
}
