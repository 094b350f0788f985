package realparts_test

import (
	"os/exec"
	"strings"
	"testing"

	"github.com/stayauth/stayauth/testdata/realparts"
)

func TestKeyring(t *testing.T) {
	_, err := exec.LookPath("secret-tool")
	realparts.Require(t, "secret-tool (Debian: apt-get install libsecret-tools)", err)

	secretTool := func(k *realparts.SecretService, stdin string, args ...string) (string, error) {
		cmd := k.Command("secret-tool", args...)
		cmd.Stdin = strings.NewReader(stdin)
		out, err := cmd.Output()
		return string(out), err
	}
	keyring, other := realparts.Keyring(t), realparts.Keyring(t)

	if _, err := secretTool(keyring, "a value", "store", "--label=test", "service", "s", "username", "u"); err != nil {
		t.Fatalf("store: %v", err)
	}
	got, err := secretTool(keyring, "", "lookup", "service", "s", "username", "u")
	if err != nil || got != "a value" {
		t.Fatalf("lookup = %q, %v; want what was stored", got, err)
	}
	if got, err := secretTool(other, "", "lookup", "service", "s", "username", "u"); err == nil {
		t.Errorf("another test's keyring has the value too: %q", got)
	}

	keyring.Lock()
	if got, err := secretTool(keyring, "", "lookup", "service", "s", "username", "u"); err == nil {
		t.Errorf("lookup in a locked keyring = %q, want an error", got)
	}
	keyring.Unlock()
	if got, err := secretTool(keyring, "", "lookup", "service", "s", "username", "u"); err != nil || got != "a value" {
		t.Errorf("lookup when it is unlocked again = %q, %v; want what was stored", got, err)
	}

	keyring.Kill()
	keyring.Start()
	if got, err := secretTool(keyring, "", "lookup", "service", "s", "username", "u"); err != nil || got != "a value" {
		t.Errorf("lookup when it was started again = %q, %v; want what was stored", got, err)
	}

	other.Kill()
	if _, err := secretTool(other, "a value", "store", "--label=test", "service", "s", "username", "u"); err == nil {
		t.Error("store without a Secret Service: want an error")
	}
}
