package gcpkms_test

import (
	"crypto/aes"
	"crypto/cipher"
	"encoding/json"
	"fmt"
	"hash/crc32"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/stayauth/stayauth/testdata/realparts/keycheck"
)

const keyName = "projects/example.com:logins/locations/europe-west3/keyRings/app/cryptoKeys/logins"

// A fake is Cloud KMS as its REST reference describes it, as strict as that: it takes what it
// documents and nothing else. There is no server to be had that Google made.
type fake struct {
	*httptest.Server

	mu    sync.Mutex
	keys  map[string][]*version // the last one is the primary
	spoil func(path string, answer map[string]any)
}

type version struct {
	aead  cipher.AEAD
	state string
}

func start(t *testing.T, names ...string) *fake {
	t.Helper()
	f := &fake{keys: map[string][]*version{}}
	for _, name := range names {
		f.rotate(name)
	}
	f.Server = httptest.NewServer(f)
	t.Cleanup(f.Close)
	return f
}

// set changes the state of a version of keyName.
func (f *fake) set(number int, state string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.keys[keyName][number-1].state = state
}

func (f *fake) rotate(name string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	block, _ := aes.NewCipher(keycheck.NewKey())
	aead, _ := cipher.NewGCMWithRandomNonce(block)
	f.keys[name] = append(f.keys[name], &version{aead, "ENABLED"})
}

// A request is that of encrypt or decrypt. The numbers are strings, as in all JSON of 64 bits
// that is made of protocol buffers.
type request struct {
	Plaintext, Ciphertext             []byte
	PlaintextCrc32c, CiphertextCrc32c *int64 `json:",string"`
	AdditionalAuthenticatedData       []byte
	AdditionalAuthenticatedDataCrc32c *int64 `json:",string"`
}

func crc(data []byte) int64 { return int64(crc32.Checksum(data, crc32.MakeTable(crc32.Castagnoli))) }

func (f *fake) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	f.mu.Lock()
	defer f.mu.Unlock()
	answer, status, text := f.answer(r)
	if status != "" {
		code := map[string]int{"INVALID_ARGUMENT": 400, "FAILED_PRECONDITION": 400, "UNAUTHENTICATED": 401, "PERMISSION_DENIED": 403, "NOT_FOUND": 404}[status]
		w.WriteHeader(code)
		answer = map[string]any{"error": map[string]any{"code": code, "status": status, "message": text}}
	} else if f.spoil != nil {
		f.spoil(r.URL.Path, answer)
	}
	json.NewEncoder(w).Encode(answer)
}

func (f *fake) answer(r *http.Request) (answer map[string]any, status, text string) {
	var in request
	decoder := json.NewDecoder(r.Body)
	decoder.DisallowUnknownFields()
	name, op := strings.TrimPrefix(r.URL.Path, "/v1/"), ""
	if colon := strings.LastIndexByte(name, ':'); colon >= 0 {
		name, op = name[:colon], name[colon+1:]
	}
	switch err := decoder.Decode(&in); {
	case r.Method != "POST" || r.Header.Get("Content-Type") != "application/json" || op != "encrypt" && op != "decrypt":
		return nil, "NOT_FOUND", "no such method"
	case r.Header.Get("Authorization") != "Bearer token":
		return nil, "UNAUTHENTICATED", "Request had invalid authentication credentials."
	case err != nil:
		return nil, "INVALID_ARGUMENT", "Invalid JSON payload received: " + err.Error()
	case in.AdditionalAuthenticatedDataCrc32c == nil || *in.AdditionalAuthenticatedDataCrc32c != crc(in.AdditionalAuthenticatedData):
		return nil, "INVALID_ARGUMENT", "The checksum in field additional_authenticated_data_crc32c did not match the data in field additional_authenticated_data."
	}
	versions := f.keys[name]
	if versions == nil {
		return nil, "NOT_FOUND", fmt.Sprintf("CryptoKey %s not found.", name)
	}
	if op == "encrypt" {
		n := len(versions)
		v := versions[n-1]
		switch {
		case in.PlaintextCrc32c == nil || *in.PlaintextCrc32c != crc(in.Plaintext):
			return nil, "INVALID_ARGUMENT", "The checksum in field plaintext_crc32c did not match the data in field plaintext."
		case v.state != "ENABLED":
			return nil, "FAILED_PRECONDITION", fmt.Sprintf("%s/cryptoKeyVersions/%d is not enabled, current state is: %s.", name, n, v.state)
		}
		ciphertext := append([]byte{byte(n)}, v.aead.Seal(nil, nil, in.Plaintext, in.AdditionalAuthenticatedData)...)
		return map[string]any{
			"name": fmt.Sprintf("%s/cryptoKeyVersions/%d", name, n), "protectionLevel": "SOFTWARE",
			"ciphertext": ciphertext, "ciphertextCrc32c": strconv.FormatInt(crc(ciphertext), 10),
			"verifiedPlaintextCrc32c": true, "verifiedAdditionalAuthenticatedDataCrc32c": true,
		}, "", ""
	}
	if in.CiphertextCrc32c == nil || *in.CiphertextCrc32c != crc(in.Ciphertext) {
		return nil, "INVALID_ARGUMENT", "The checksum in field ciphertext_crc32c did not match the data in field ciphertext."
	}
	n := 0
	if len(in.Ciphertext) > 0 {
		n = int(in.Ciphertext[0])
	}
	if n < 1 || n > len(versions) {
		return nil, "INVALID_ARGUMENT", "Decryption failed: the ciphertext is invalid."
	}
	v := versions[n-1]
	plain, err := v.aead.Open(nil, nil, in.Ciphertext[1:], in.AdditionalAuthenticatedData)
	switch {
	case v.state != "ENABLED":
		return nil, "FAILED_PRECONDITION", fmt.Sprintf("%s/cryptoKeyVersions/%d is not enabled, current state is: %s.", name, n, v.state)
	case err != nil:
		return nil, "INVALID_ARGUMENT", "Decryption failed: verify that 'name' refers to the correct CryptoKey."
	}
	return map[string]any{"plaintext": plain, "plaintextCrc32c": strconv.FormatInt(crc(plain), 10), "usedPrimary": n == len(versions), "protectionLevel": "SOFTWARE"}, "", ""
}
