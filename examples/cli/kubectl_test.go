//go:build unix

package main

import (
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/stayauth/stayauth/testdata/realparts"
)

// The real kubectl gets the token by a kubeconfig such as the help has, and the next one when
// that has expired.
func TestKubectl(t *testing.T) {
	kubectl, err := exec.LookPath("kubectl")
	realparts.Require(t, "kubectl", err)
	program, err := exec.LookPath("stayauth")
	if err != nil {
		t.Fatal(err)
	}
	tm := newTerminal(t)
	var calls atomic.Int32
	cluster := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		token, _ := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
		if !tm.srv.Valid(token) {
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		calls.Add(1)
		fmt.Fprint(w, `{"major":"1"}`)
	}))
	defer cluster.Close()
	ca := base64.StdEncoding.EncodeToString(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cluster.Certificate().Raw}))
	kube := func(version, origin string) (string, error) {
		config, err := json.Marshal(map[string]any{ // YAML is JSON too.
			"kind": "Config", "apiVersion": "v1", "current-context": "c",
			"clusters": []any{map[string]any{"name": "c", "cluster": map[string]any{"server": cluster.URL, "certificate-authority-data": ca}}},
			"contexts": []any{map[string]any{"name": "c", "context": map[string]any{"cluster": "c", "user": "me"}}},
			"users": []any{map[string]any{"name": "me", "user": map[string]any{"exec": map[string]any{
				"apiVersion": version, "command": program, "args": []string{"kube-credential", "-origin", origin},
				"interactiveMode": "Never", "provideClusterInfo": true}}}},
		})
		if err != nil {
			t.Fatal(err)
		}
		path := filepath.Join(t.TempDir(), "config")
		if err := os.WriteFile(path, config, 0o600); err != nil {
			t.Fatal(err)
		}
		cmd := exec.Command(kubectl, "--kubeconfig", path, "get", "--raw", "/version")
		cmd.Env = append(tm.environment(), "HOME="+t.TempDir())
		out, err := cmd.CombinedOutput()
		return string(out), err
	}
	served := 0
	for _, version := range []string{v1 + "beta1", v1} {
		if err := expire(tm.dir); err != nil {
			t.Fatal(err)
		}
		out, err := kube(version, cluster.URL)
		if err != nil && version == v1 && strings.Contains(out, "apiVersion") {
			t.Logf("a kubectl that does not know %s yet: %s", v1, out)
			continue
		}
		if served++; err != nil || !strings.Contains(out, "major") {
			t.Errorf("%s: %v: %s", version, err, out)
		}
		if c := tm.srv.Counts(); c.Rotations != served || c.Reuses != 0 {
			t.Errorf("%+v", c)
		}
	}
	before := calls.Load()
	if out, err := kube(v1+"beta1", "https://k8s.example.com"); err == nil || calls.Load() != before {
		t.Errorf("the token went to a cluster that it is not for: %s", out)
	}
}
