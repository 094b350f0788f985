package tokencache

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
)

// KeyFile returns a source that keeps its keys in the file at path, in the clear: whoever can
// read the file can open the entries, so it protects backups and copies of the entries, but not
// against other programs of the same user. The file is created with a new key and mode 0600
// when a key is first needed; processes that do so at the same time agree on one key. A
// symbolic link and a file that everybody can read are refused; the permissions of its group
// are withdrawn. The source is a KeyRotator.
func KeyFile(path string) KeySource {
	return newKeyFile(path, plainKeys{})
}

// A keyFile is a file of keys. Its codec says how they are protected.
type keyFile struct {
	path  string
	codec keyCodec
}

// String says where the keys are.
func (k *keyFile) String() string { return "key file " + k.path }

func newKeyFile(path string, codec keyCodec) *keyFile {
	// The file stays the same when the program changes its working directory. If there is
	// no working directory, using the path will fail.
	if abs, err := filepath.Abs(path); err == nil {
		path = abs
	}
	return &keyFile{path: path, codec: codec}
}

// A keyCodec turns the keys into the content of a file and back.
type keyCodec interface {
	encode(ctx context.Context, keys [][]byte) (*keyFileContent, error)
	decode(ctx context.Context, content *keyFileContent) ([][]byte, error)
}

// keyFileContent is the stored form of a key file. It holds the keys either in the clear or
// sealed, never both.
type keyFileContent struct {
	V    int      `json:"v"`
	Keys [][]byte `json:"keys,omitempty"`

	KDF        string `json:"kdf,omitempty"`
	Iterations int    `json:"iterations,omitempty"`
	Salt       []byte `json:"salt,omitempty"`
	Sealed     []byte `json:"sealed,omitempty"` // the keys, one after the other
}

const (
	keyFileVersion = 1
	maxKeyFile     = 64 << 10
)

// Keys implements KeySource.
func (k *keyFile) Keys(ctx context.Context) ([][]byte, error) {
	keys, err := k.read(ctx)
	if !errors.Is(err, fs.ErrNotExist) {
		return keys, err
	}
	err = k.update(ctx, func(present [][]byte) [][]byte {
		if keys = present; keys == nil { // still nil: another process may have been faster
			keys = [][]byte{newKey()}
		}
		return keys
	})
	if err != nil {
		return nil, err
	}
	return keys, nil
}

// AddKey implements KeyRotator.
func (k *keyFile) AddKey(ctx context.Context) error {
	return k.update(ctx, func(present [][]byte) [][]byte {
		return append([][]byte{newKey()}, present...)
	})
}

// DropOldKeys implements KeyRotator.
func (k *keyFile) DropOldKeys(ctx context.Context) error {
	return k.update(ctx, func(present [][]byte) [][]byte {
		return present[:min(len(present), 1)]
	})
}

func newKey() []byte {
	key := make([]byte, keySize)
	rand.Read(key)
	return key
}

// update replaces the keys by what change returns for them; it passes nil if there is no file
// yet. Processes take turns, and a crash leaves the old file or the new one.
func (k *keyFile) update(ctx context.Context, change func(present [][]byte) [][]byte) error {
	dir, name := filepath.Split(k.path)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return ioError("create", dir, err)
	}
	unlock, err := lockFile(ctx, k.path+lockSuffix, nil)
	if err != nil {
		return err
	}
	defer unlock()
	present, err := k.read(ctx)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	keys := change(present)
	if len(keys) == len(present) {
		return nil
	}
	content, err := k.codec.encode(ctx, keys)
	if err != nil {
		return k.wrap(err)
	}
	data, err := json.Marshal(content)
	if err == nil && len(data) >= maxKeyFile {
		err = fmt.Errorf("%w: it holds too many keys; complete a Rekey", ErrUnavailable)
	}
	if err != nil {
		return k.wrap(err)
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return ioError("open", dir, err)
	}
	defer root.Close()
	err = replaceFile(root, name, append(data, '\n'))
	if err == nil {
		err = syncDir(root, ".")
	}
	if err != nil {
		return ioError("write", k.path, err)
	}
	return nil
}

// read returns the keys. If there is no file, the error is fs.ErrNotExist.
func (k *keyFile) read(ctx context.Context) ([][]byte, error) {
	data, err := readPrivateFile(k.path)
	if err != nil {
		return nil, err
	}
	content := new(keyFileContent)
	if json.Unmarshal(data, content) != nil || content.V < 1 {
		return nil, k.wrap(fmt.Errorf("%w: it is not a key file: bring back the right file; or move it away, delete what it sealed, and log in again", ErrCorrupt))
	}
	if content.V > keyFileVersion {
		return nil, k.wrap(fmt.Errorf("%w: it was written by a newer version of stayauth: update the program", ErrCorrupt))
	}
	keys, err := k.codec.decode(ctx, content)
	if err != nil {
		return nil, k.wrap(err)
	}
	for _, key := range keys {
		if len(key) != keySize {
			return nil, k.wrap(fmt.Errorf("%w: a key has %d bytes, want %d", ErrCorrupt, len(key), keySize))
		}
	}
	return keys, nil
}

func (k *keyFile) wrap(err error) error { return fmt.Errorf("key file %s: %w", k.path, err) }

// readPrivateFile reads a file, provided that nobody else can read it.
func readPrivateFile(path string) ([]byte, error) {
	info, err := os.Lstat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fs.ErrNotExist
	}
	if err != nil {
		return nil, ioError("open", path, err)
	}
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("%w: key file %s is a symbolic link or something else that is not a plain file: name the file itself", ErrUnavailable, path)
	}
	var f *os.File
	err = whileShared(func() error { f, err = os.OpenFile(path, os.O_RDONLY|openNoFollow, 0); return err })
	if err != nil {
		return nil, ioError("open", path, err)
	}
	defer f.Close()
	if info, err = f.Stat(); err != nil {
		return nil, ioError("open", path, err)
	}
	if err := checkOwned(path, info, 0o077, f.Chmod); err != nil {
		return nil, err
	}
	data, err := io.ReadAll(io.LimitReader(f, maxKeyFile+1))
	if err != nil {
		return nil, ioError("read", path, err)
	}
	if len(data) > maxKeyFile {
		return nil, fmt.Errorf("%w: key file %s has more than %d bytes", ErrCorrupt, path, maxKeyFile)
	}
	return data, nil
}

// plainKeys keeps keys as they are.
type plainKeys struct{}

func (plainKeys) encode(_ context.Context, keys [][]byte) (*keyFileContent, error) {
	return &keyFileContent{V: keyFileVersion, Keys: keys}, nil
}

func (plainKeys) decode(_ context.Context, c *keyFileContent) ([][]byte, error) {
	if c.KDF != "" {
		return nil, fmt.Errorf("%w: its keys are protected by a passphrase: open it with PassphraseFile", ErrCorrupt)
	}
	if len(c.Keys) == 0 {
		return nil, fmt.Errorf("%w: it holds no key", ErrCorrupt)
	}
	return c.Keys, nil
}
