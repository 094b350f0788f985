//go:build linux

package main

import (
	"bytes"
	"encoding/base64"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stayauth/stayauth/tokencache"
)

// container makes this process believe that it is in a container: no session bus,
// and nothing from systemd.
func container(t *testing.T) {
	t.Setenv("DBUS_SESSION_BUS_ADDRESS", "unix:path="+filepath.Join(t.TempDir(), "none"))
	t.Setenv("CREDENTIALS_DIRECTORY", "")
	t.Setenv("STAYAUTH_PASSPHRASE", "")
}

func TestHeadless(t *testing.T) {
	for _, c := range []struct {
		name    string
		prepare func(t *testing.T) (keyFile string)
		want    string
	}{
		{"passphrase", func(t *testing.T) string {
			t.Setenv("STAYAUTH_PASSPHRASE", "correct horse battery staple")
			return ""
		}, "passphrase"},
		{"credential", func(t *testing.T) string {
			dir := t.TempDir()
			key := base64.StdEncoding.EncodeToString(bytes.Repeat([]byte{1}, 32))
			if err := os.WriteFile(filepath.Join(dir, "stayauth-key"), []byte(key), 0o400); err != nil {
				t.Fatal(err)
			}
			t.Setenv("CREDENTIALS_DIRECTORY", dir)
			return ""
		}, "systemd credential"},
		{"key file", func(t *testing.T) string { return filepath.Join(t.TempDir(), "key") }, "key file"},
	} {
		t.Run(c.name, func(t *testing.T) {
			container(t)
			keyFile := c.prepare(t)
			var out bytes.Buffer
			if err := run(t.Context(), &out, t.TempDir(), keyFile); err != nil {
				t.Fatal(err)
			}
			for _, want := range []string{"key: " + c.want, "logged in: the API answers 200", "started again, key: " + c.want + ": the API answers 200", "twice: true"} {
				if !strings.Contains(out.String(), want) {
					t.Errorf("%q is missing in:\n%s", want, out.String())
				}
			}
		})
	}
}

func TestNothingAccepted(t *testing.T) {
	container(t)
	dir := t.TempDir()
	err := run(t.Context(), new(bytes.Buffer), dir, "")
	if !errors.Is(err, tokencache.ErrUnavailable) {
		t.Fatalf("error %v, want ErrUnavailable", err)
	}
	for _, want := range []string{"no session bus", "$CREDENTIALS_DIRECTORY", "STAYAUTH_PASSPHRASE"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("the error does not say %q: %v", want, err)
		}
	}
	if files, _ := os.ReadDir(filepath.Join(dir, "entries")); len(files) != 0 {
		t.Errorf("something was stored: %v", files)
	}
}
