package realparts

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// An OpenBao is a running server, unsealed. What it has stored survives Stop, Crash and Start.
type OpenBao struct {
	Server
	Token string // which may do everything

	unsealKey string
}

// StartOpenBao starts a server that ends with the test.
func StartOpenBao(t testing.TB) *OpenBao {
	t.Helper()
	const what = "OpenBao (Debian: apt-get install python3-pip)"
	_, err := exec.LookPath("sh")
	Require(t, what, err)
	program, err := openBaoServer()
	Require(t, what, err)
	dir := t.TempDir()
	b := &OpenBao{Server: Server{Port: FreePort(t), t: t, what: "OpenBao", crash: "KILL"}}
	others := fmt.Sprintf("127.0.0.1:%d", FreePort(t)) // the address for other servers, which there are not
	config, err := json.Marshal(map[string]any{
		"storage":      map[string]any{"raft": map[string]string{"path": dir, "node_id": "one", "performance_multiplier": "1"}},
		"listener":     map[string]any{"tcp": map[string]any{"address": fmt.Sprintf("127.0.0.1:%d", b.Port), "cluster_address": others, "tls_disable": true}},
		"api_addr":     b.URL(),
		"cluster_addr": "http://" + others,
	})
	if err == nil {
		err = os.WriteFile(filepath.Join(dir, "config.json"), config, 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
	b.command = func() (string, []string) {
		// It is not the server that is tested under GODEBUG=fips140=only.
		return "env", []string{"-u", "GODEBUG", "sh", "-c", untilInput, "sh", program, "server", "-config=" + filepath.Join(dir, "config.json")}
	}
	b.ready = b.unseal
	b.run()
	return b
}

// URL is the address of the server.
func (b *OpenBao) URL() string { return fmt.Sprintf("http://127.0.0.1:%d", b.Port) }

// Seal makes the server forget its key: it answers, but knows nothing.
func (b *OpenBao) Seal(t testing.TB) { b.Do(t, "PUT", "sys/seal", nil, nil) }

// Unseal ends that. A server that is started is unsealed too.
func (b *OpenBao) Unseal(t testing.TB) { await(t, b.what, b.unseal) }

func (b *OpenBao) unseal() error {
	if b.Token == "" {
		var made struct {
			Keys  []string
			Token string `json:"root_token"`
		}
		if err := b.call("PUT", "sys/init", map[string]int{"secret_shares": 1, "secret_threshold": 1}, &made); err != nil {
			return err
		}
		b.Token, b.unsealKey = made.Token, made.Keys[0]
	}
	if err := b.call("PUT", "sys/unseal", map[string]string{"key": b.unsealKey}, nil); err != nil {
		return err
	}
	return b.call("GET", "sys/health", nil, nil)
}

// Do calls the API with the token that may do everything. in and out may be nil.
func (b *OpenBao) Do(t testing.TB, method, path string, in, out any) {
	t.Helper()
	if err := b.call(method, path, in, out); err != nil {
		t.Fatal(err)
	}
}

func (b *OpenBao) call(method, path string, in, out any) error {
	body, err := json.Marshal(in)
	if err != nil {
		return err
	}
	req, err := http.NewRequest(method, b.URL()+"/v1/"+path, bytes.NewReader(body))
	if err != nil {
		return err
	}
	req.Header.Set("X-Vault-Token", b.Token)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(resp.Body)
	if err != nil {
		return err
	}
	if resp.StatusCode >= 300 {
		return fmt.Errorf("%s %s: %s: %s", method, path, resp.Status, answer)
	}
	if out != nil {
		return json.Unmarshal(answer, out)
	}
	return nil
}
