package realparts

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	"github.com/gofrs/flock"
)

// installed returns a directory with the node_modules that files["package.json"] asks
// for. It is kept in the user's cache, by the content of package.json, outside the
// source tree. Test packages run at the same time: the first installs, others wait.
func installed(files fs.FS) (string, error) {
	manifest, err := fs.ReadFile(files, "package.json")
	if err != nil {
		return "", err
	}
	cache, err := os.UserCacheDir()
	if err != nil {
		return "", err
	}
	sum := sha256.Sum256(manifest)
	dir := filepath.Join(cache, "stayauth-test", "oidc-provider-"+hex.EncodeToString(sum[:6]))
	if isDir(dir) {
		return dir, nil
	}
	if !required() {
		return "", errors.New("its npm packages are not in the cache (with STAYAUTH_REQUIRE=all the tests download them)")
	}

	if err := os.MkdirAll(filepath.Dir(dir), 0o755); err != nil {
		return "", err
	}
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
	defer cancel()
	lock := flock.New(dir + ".lock")
	if _, err := lock.TryLockContext(ctx, 50*time.Millisecond); err != nil {
		return "", fmt.Errorf("waiting for another installation: %w", err)
	}
	defer lock.Unlock()
	if isDir(dir) {
		return dir, nil
	}
	// Installed beside its place and then renamed: what is in its place is complete.
	temp, err := os.MkdirTemp(filepath.Dir(dir), "installing-")
	if err != nil {
		return "", err
	}
	defer os.RemoveAll(temp)
	if err := os.CopyFS(temp, files); err != nil {
		return "", err
	}
	npm := exec.CommandContext(ctx, "npm", "install")
	npm.Dir = temp
	if out, err := npm.CombinedOutput(); err != nil {
		return "", fmt.Errorf("npm install: %w\n%s", err, out)
	}
	return dir, os.Rename(temp, dir)
}

func isDir(name string) bool {
	info, err := os.Stat(name)
	return err == nil && info.IsDir()
}
