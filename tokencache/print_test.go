package tokencache_test

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"log/slog"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stayauth/stayauth/tokencache"
)

// Nothing that can hold a secret shows it, however it is printed.
func TestNothingPrintsASecret(t *testing.T) {
	ctx := t.Context()
	secret := bytes.Repeat([]byte("KEY!"), 8)
	dir := t.TempDir()

	memory := new(tokencache.Memory)
	plain := newCache(t, memory, nil)
	if _, err := plain.Save(ctx, testKey, testRecord(), ""); err != nil {
		t.Fatal(err)
	}
	record, _, err := plain.Load(ctx, testKey)
	if err != nil {
		t.Fatal(err)
	}
	// A member of a later version may be a secret too.
	data, v, _ := memory.Load(ctx, testKey.Name())
	data = append(data[:len(data)-1], `,"of_later":{"d":"unknown-secret"}}`...)
	if _, err := memory.Save(ctx, testKey.Name(), data, v); err != nil {
		t.Fatal(err)
	}
	unknown, _, err := plain.Load(ctx, testKey)
	if err != nil {
		t.Fatal(err)
	}
	bound := record.Clone()
	bound.Bind("proof-secret", "thumbprint")
	several := record.Clone()
	several.Select("of-token-secret")
	several.AccessToken = "other-token-secret"
	keyBytes := tokencache.KeyBytes(secret)
	sealed := newCache(t, new(tokencache.Memory), keyBytes)
	if _, err := sealed.Save(ctx, testKey, testRecord(), ""); err != nil {
		t.Fatal(err)
	}
	keyFile := tokencache.KeyFile(filepath.Join(dir, "key"))
	secrets := append(mustKeys(t, keyFile), secret)
	passFile, _ := passphrase(filepath.Join(dir, "sealed-key"), "passphrase-secret")
	secrets = append(secrets, mustKeys(t, passFile)...)

	service := newKeyService(t)
	envelopedCache := enveloped(t, new(tokencache.Memory), tokencache.Envelope{Wrapper: service, Old: keyBytes})
	if _, err := envelopedCache.Save(ctx, testKey, testRecord(), ""); err != nil {
		t.Fatal(err)
	}
	secrets = append(secrets, service.dataKeys...)

	values := map[string]any{
		"enveloped Cache": envelopedCache, "*enveloped Cache": *envelopedCache, "Envelope": tokencache.Envelope{Wrapper: publicKey(t), Old: keyBytes},
		"Secret": record.RefreshToken, "*Secret": &record.RefreshToken, "[]Secret": []tokencache.Secret{record.RefreshToken},
		"Record": *record, "*Record": record, "Record with unknown members": *unknown, "*Record with unknown members": unknown, "[]Record": []tokencache.Record{*unknown},
		"bound Record": *bound, "bound *Record": bound, "Record with targets": *several, "*Record with targets": several,
		"Extra": record.Extra, "Memory": memory, "Cache": plain, "sealed Cache": sealed, "*sealed Cache": *sealed,
		"KeyBytes": keyBytes, "KeyFile": keyFile, "PassphraseFile": passFile, "[]KeySource": []tokencache.KeySource{keyBytes, keyFile, passFile},
		"nested": struct {
			R tokencache.Record
			C *tokencache.Cache
			K tokencache.KeySource
		}{*unknown, sealed, passFile},
	}
	for name, value := range values {
		for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%+s", "%q", "%+q", "%#q", "%x", "% X", "%#x", "%d", "%t", "%08.3f", "%U", "%T", "%20v", "%-20s", "%.3s", "%!"} {
			noSecret(t, name+" "+verb, fmt.Sprintf(verb, value), secrets)
		}
		noSecret(t, name+" Sprint", fmt.Sprint(value)+fmt.Sprintln(value), secrets)
		if js, err := json.Marshal(value); err == nil {
			noSecret(t, name+" JSON", string(js), secrets)
		}
		var log bytes.Buffer
		slog.New(slog.NewTextHandler(&log, nil)).Info("x", "value", value, slog.Group("g", "value", value))
		slog.New(slog.NewJSONHandler(&log, nil)).Info("x", "value", value, slog.Group("g", "value", value))
		noSecret(t, name+" slog", log.String(), secrets)
	}
	if got := fmt.Sprint(record.RefreshToken, tokencache.Secret("")); !strings.Contains(got, "[redacted]") {
		t.Errorf("a Secret prints as %q", got)
	}
}

func noSecret(t *testing.T, what, printed string, keys [][]byte) {
	t.Helper()
	forbidden := []string{"-secret", "of_later"}
	for _, s := range []string{"token-secret", "unknown-secret", "extra-secret", "proof-secret", "passphrase-secret"} {
		forbidden = append(forbidden, hex.EncodeToString([]byte(s)), fmt.Sprintf("% X", s), strings.Trim(fmt.Sprint([]byte(s)), "[]"))
	}
	for _, k := range keys {
		forbidden = append(forbidden, string(k), hex.EncodeToString(k), strings.Trim(fmt.Sprint(k), "[]"), base64.StdEncoding.EncodeToString(k), fmt.Sprintf("%q", k))
	}
	for _, f := range forbidden {
		if strings.Contains(strings.ToLower(printed), strings.ToLower(f)) {
			t.Errorf("%s shows %q: %.300s", what, f, printed)
			return
		}
	}
}
