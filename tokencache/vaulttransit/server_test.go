package vaulttransit_test

import (
	"context"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stayauth/stayauth/testdata/realparts"
	"github.com/stayauth/stayauth/testdata/realparts/keycheck"
	"github.com/stayauth/stayauth/tokencache"
	"github.com/stayauth/stayauth/tokencache/vaulttransit"
)

var records = flag.Int("records", 100, "how many logins there are")

// policy is what the package documentation says the token of a service needs.
const policy = `
path "transit/encrypt/logins" { capabilities = ["update"] }
path "transit/decrypt/logins" { capabilities = ["update"] }`

// A part is a transit engine on a server, mounted where nobody else uses it, with the key
// "logins".
type part struct {
	*realparts.OpenBao
	cfg vaulttransit.Config // with a token that has the rights of policy
}

func mount(t *testing.T, server *realparts.OpenBao, path string) part {
	t.Helper()
	server.Do(t, "POST", "sys/mounts/"+path, map[string]string{"type": "transit"}, nil)
	server.Do(t, "POST", path+"/keys/logins", nil, nil)
	token := newToken(t, server, path, strings.ReplaceAll(policy, "transit/", path+"/"))
	return part{server, vaulttransit.Config{Address: server.URL(), Key: "logins", Mount: path, Token: fixed(token)}}
}

func newToken(t *testing.T, server *realparts.OpenBao, name, policy string) string {
	t.Helper()
	server.Do(t, "PUT", "sys/policies/acl/"+name, map[string]string{"policy": policy}, nil)
	var made struct {
		Auth struct {
			Token string `json:"client_token"`
		}
	}
	server.Do(t, "POST", "auth/token/create", map[string]any{"policies": []string{name}, "no_parent": true}, &made)
	return made.Auth.Token
}

func fixed(token string) func(context.Context) (tokencache.Secret, error) {
	return func(context.Context) (tokencache.Secret, error) { return tokencache.Secret(token), nil }
}

func mustNew(t *testing.T, cfg vaulttransit.Config) *vaulttransit.Wrapper {
	t.Helper()
	w, err := vaulttransit.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return w
}

func TestServer(t *testing.T) {
	t.Parallel()
	server := realparts.StartOpenBao(t)
	t.Run("wrap and unwrap", func(t *testing.T) { wrapAndUnwrap(t, mount(t, server, "transit")) })
	t.Run("the key is rotated", func(t *testing.T) { keyIsRotated(t, mount(t, server, "rotated")) })
	t.Run("old keys", func(t *testing.T) { oldKeys(t, mount(t, server, "old")) })
	t.Run("misconfigured", func(t *testing.T) { misconfigured(t, mount(t, server, "misconfigured")) })
	t.Run("token file", func(t *testing.T) { tokenFile(t, mount(t, server, "file")) })
	t.Run("logins", func(t *testing.T) { logins(t, mount(t, server, "logins")) })
	t.Run("namespaces", func(t *testing.T) { namespaces(t, server) })
}

// With the rights that the documentation names, and no more.
func wrapAndUnwrap(t *testing.T, p part) {
	p.cfg.Mount = "" // which is the default
	w := mustNew(t, p.cfg)
	_, wrapped := keycheck.Wrap(t, w)
	if wrapped.KeyID != "logins:v1" {
		t.Errorf("wrapped with %q", wrapped.KeyID)
	}
	keycheck.Damaged(t, w)
}

// Old versions of a key open, until an administrator says that they no longer do. New data
// keys are wrapped with the newest one, and say so.
func keyIsRotated(t *testing.T, p part) {
	w := mustNew(t, p.cfg)
	key, old := keycheck.Wrap(t, w)
	p.Do(t, "POST", "rotated/keys/logins/rotate", nil, nil)
	keycheck.Unwraps(t, w, old, key)
	newKey, wrapped := keycheck.Wrap(t, w)
	if wrapped.KeyID != "logins:v2" {
		t.Errorf("after the rotation, a key is wrapped with %s", wrapped.KeyID)
	}

	p.Do(t, "POST", "rotated/keys/logins/config", map[string]int{"min_decryption_version": 2}, nil)
	keycheck.CannotUnwrap(t, w, old, "min_decryption_version")
	keycheck.Unwraps(t, w, wrapped, newKey)
	p.Do(t, "POST", "rotated/keys/logins/config", map[string]int{"min_decryption_version": 1}, nil)
	keycheck.Unwraps(t, w, old, key)
}

// One key takes the place of another.
func oldKeys(t *testing.T, p part) {
	key, old := keycheck.Wrap(t, mustNew(t, p.cfg))
	p.Do(t, "POST", "old/keys/newer", nil, nil)
	p.cfg.Key, p.cfg.OldKeys, p.cfg.Token = "newer", []string{"logins"}, fixed(p.Token)
	w := mustNew(t, p.cfg)
	keycheck.Unwraps(t, w, old, key)
	if _, wrapped := keycheck.Wrap(t, w); wrapped.KeyID != "newer:v1" {
		t.Errorf("wrapped with %s", wrapped.KeyID)
	}

	// The wrong key opens nothing, even if the store says that it is the right one.
	if _, err := w.UnwrapKey(t.Context(), tokencache.WrappedKey{KeyID: "newer:v1", Data: old.Data}); err == nil {
		t.Error("another key has unwrapped")
	}
}

// Whatever is wrong with the server or the key is ErrUnavailable and says what to do; when it
// is over, what was wrapped before still opens.
func TestOutages(t *testing.T) {
	t.Parallel()
	server := realparts.StartOpenBao(t)
	w := mustNew(t, mount(t, server, "transit").cfg)
	key, wrapped := keycheck.Wrap(t, w)
	for what, outage := range map[string]struct {
		begin func()
		says  string
		end   func()
	}{
		"sealed":  {func() { server.Seal(t) }, "unseal it", func() { server.Unseal(t) }},
		"crashed": {server.Crash, "connection refused", server.Start},
	} {
		outage.begin()
		keycheck.Unavailable(t, w, wrapped, outage.says)
		outage.end()
		if _, err := w.UnwrapKey(t.Context(), wrapped); err != nil {
			t.Errorf("%s: when it is over: %v", what, err)
		}
	}
	server.Freeze()
	keycheck.NoAnswer(t, w, wrapped)
	server.Thaw()
	keycheck.Unwraps(t, w, wrapped, key)
}

func misconfigured(t *testing.T, p part) {
	w := mustNew(t, p.cfg)
	_, wrapped := keycheck.Wrap(t, w)
	for what, bad := range map[string]struct {
		change func(cfg *vaulttransit.Config)
		says   string
	}{
		"token without rights": {func(cfg *vaulttransit.Config) {
			cfg.Token = fixed(newToken(t, p.OpenBao, "weak", `path "x" { capabilities = ["read"] }`))
		}, "permission denied"},
		"unknown token":   {func(cfg *vaulttransit.Config) { cfg.Token = fixed("s.unknown") }, "permission denied"},
		"no token":        {func(cfg *vaulttransit.Config) { cfg.Token = nil }, "permission denied"},
		"wrong mount":     {func(cfg *vaulttransit.Config) { cfg.Mount = "elsewhere"; cfg.Token = fixed(p.Token) }, "Config.Mount"},
		"wrong namespace": {func(cfg *vaulttransit.Config) { cfg.Namespace = "elsewhere"; cfg.Token = fixed(p.Token) }, "Namespace"},
		"no file":         {func(cfg *vaulttransit.Config) { cfg.Token = vaulttransit.TokenFile("/nonexistent") }, "no token"},
	} {
		t.Run(what, func(t *testing.T) {
			cfg := p.cfg
			bad.change(&cfg)
			keycheck.Unavailable(t, mustNew(t, cfg), wrapped, bad.says)
		})
	}

	p.Do(t, "POST", "misconfigured/keys/logins/config", map[string]bool{"deletion_allowed": true}, nil)
	p.Do(t, "DELETE", "misconfigured/keys/logins", nil, nil)
	keycheck.CannotUnwrap(t, w, wrapped, "no such key")
	_, err := w.WrapKey(t.Context(), keycheck.NewKey()) // That would make a new key, which the policy forbids.
	keycheck.CannotUse(t, err, "there is no such key")

	// With disable_upsert, not even a token that may do everything makes a key by mistake.
	p.Do(t, "POST", "misconfigured/config/keys", map[string]bool{"disable_upsert": true}, nil)
	p.cfg.Token = fixed(p.Token)
	_, err = mustNew(t, p.cfg).WrapKey(t.Context(), keycheck.NewKey())
	keycheck.CannotUse(t, err, "there is no such key")
}

// An agent renews the token and keeps it in a file: the next call uses the new one.
func tokenFile(t *testing.T, p part) {
	token, err := p.cfg.Token(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "token")
	write := func(token string) {
		if err := os.WriteFile(file, []byte(token+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("s.expired")
	p.cfg.Token = vaulttransit.TokenFile(file)
	w := mustNew(t, p.cfg)
	_, err = w.WrapKey(t.Context(), keycheck.NewKey())
	keycheck.CannotUse(t, err, "permission denied")
	write(string(token))
	keycheck.Wrap(t, w)
}

func namespaces(t *testing.T, server *realparts.OpenBao) {
	server.Do(t, "POST", "sys/namespaces/team", nil, nil)
	server.Do(t, "POST", "team/sys/mounts/secrets/transit", map[string]string{"type": "transit"}, nil)
	server.Do(t, "POST", "team/secrets/transit/keys/logins", nil, nil)
	w := mustNew(t, vaulttransit.Config{Address: server.URL() + "/", Key: "logins", Mount: "/secrets/transit/", Namespace: "team", Token: fixed(server.Token)})
	keycheck.Wrap(t, w)
}

// What logins cost, and what becomes of them.
func logins(t *testing.T, p part) {
	keycheck.Cache(t, mustNew(t, p.cfg), keycheck.Service{
		Rotate: func() { p.Do(t, "POST", "logins/keys/logins/rotate", nil, nil) },
		Retire: func() {
			p.Do(t, "POST", "logins/keys/logins/config", map[string]int{"min_decryption_version": 2, "min_encryption_version": 2}, nil)
			p.Do(t, "POST", "logins/keys/logins/trim", map[string]int{"min_available_version": 2}, nil) // destroys version 1
		},
		Down: func() { p.Seal(t) },
		Up:   func() { p.Unseal(t) },
	}, *records)
}
