//go:build unix

package main

import (
	"encoding/json"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"
)

// kube is kubectl as it calls its plugin.
func (tm *terminal) kube(info string, args ...string) (stdout, stderr string, status int) {
	cmd := exec.Command("stayauth", append([]string{"kube-credential"}, args...)...)
	var told strings.Builder
	cmd.Env, cmd.Stderr = append(tm.environment(), kubeVar+"="+info), &told
	out, _ := cmd.Output()
	return string(out), told.String(), cmd.ProcessState.ExitCode()
}

const v1 = "client.authentication.k8s.io/v1"

// The answer has the fields of the ExecCredential of Kubernetes, and no others; whoever has not
// logged in is not asked to by a plugin, even if there is a terminal.
func TestKubeCredential(t *testing.T) {
	tm := newTerminal(t)
	now := tm.srv.Current("user")
	cluster := func(version, server string) string {
		return `{"kind":"ExecCredential","apiVersion":"` + version + `","spec":{"cluster":{"server":"` + server + `","insecure-skip-tls-verify":true,"config":null},"interactive":true}}`
	}
	for _, tt := range []struct {
		name, info string
		status     int
		says       string
	}{
		{"nothing", "", exitOK, v1},
		{"no cluster", `{"kind":"ExecCredential","apiVersion":"` + v1 + `","spec":{"interactive":false}}`, exitOK, v1},
		{"beta", `{"kind":"ExecCredential","apiVersion":"` + v1 + `beta1","spec":{"interactive":false}}`, exitOK, v1 + "beta1"},
		{"cluster", cluster(v1, tm.srv.APIOrigin()), exitOK, v1},
		{"cluster with a path", cluster(v1, tm.srv.APIOrigin()+"/k8s/clusters/c"), exitOK, v1},
		{"another cluster", cluster(v1, "https://k8s.example.com"), exitUsage, "allow it with -origin"},
		{"no address", cluster(v1, "k8s.example.com"), exitUsage, "allow it with -origin"},
		{"commands to a terminal", cluster(v1, `https://k8s.example.com\u001b[2J\u0000`), exitUsage, `com\x1b[2J\x00": allow it with -origin`},
		{"alpha", cluster(v1+"alpha1", tm.srv.APIOrigin()), exitUsage, "apiVersion: " + v1},
		{"no JSON", "nonsense", exitUsage, kubeVar},
	} {
		t.Run(tt.name, func(t *testing.T) {
			out, told, status := tm.kube(tt.info)
			if status != tt.status {
				t.Fatalf("exit status %d: %s", status, told)
			}
			if status != exitOK {
				if out != "" || !strings.Contains(told, tt.says) {
					t.Errorf("%q and %q", out, told)
				}
				return
			}
			var answer struct {
				Kind       string `json:"kind"`
				APIVersion string `json:"apiVersion"`
				Status     struct {
					ExpirationTimestamp time.Time `json:"expirationTimestamp"`
					Token               string    `json:"token"`
				} `json:"status"`
			}
			read := json.NewDecoder(strings.NewReader(out))
			read.DisallowUnknownFields()
			if err := read.Decode(&answer); err != nil {
				t.Fatal(err)
			}
			if answer.Kind != "ExecCredential" || answer.APIVersion != tt.says || answer.Status.Token != now.AccessToken {
				t.Errorf("%s %s, %s", answer.Kind, answer.APIVersion, told)
			}
			if off := now.Expiry.Sub(answer.Status.ExpirationTimestamp); off < 0 || off > 2*time.Second {
				t.Errorf("it expires %v too early", off)
			}
		})
	}
	tm.run(0, "logout", "-local")
	if out, told, status := tm.kube(cluster(v1, tm.srv.APIOrigin())); status != exitLogin || out != "" || !strings.Contains(told, "stayauth login") {
		t.Errorf("exit status %d, %q and %q", status, out, told)
	}
}

// However many programs want the next token at once, there is one refresh.
func TestHelpersAtOnce(t *testing.T) {
	tm := newTerminal(t)
	if err := expire(tm.dir); err != nil {
		t.Fatal(err)
	}
	var answers [20]string
	var all sync.WaitGroup
	for i := range answers {
		all.Go(func() {
			told, status := "", exitUnavailable
			for status == exitUnavailable && t.Context().Err() == nil { // A machine that is busy takes longer than they wait.
				answers[i], told, status = tm.kube("")
			}
			if status != exitOK {
				t.Errorf("exit status %d: %s", status, told)
			}
		})
	}
	all.Wait()
	for _, answer := range answers {
		if answer != answers[0] || !strings.Contains(answer, tm.srv.Current("user").AccessToken) {
			t.Error("not all have the newest token")
		}
	}
	if c := tm.srv.Counts(); c.Rotations != 1 || c.TokenRequests != 1 || c.Reuses != 0 {
		t.Errorf("%+v", c)
	}
}

// What kubectl might say, and does not, is no reason to end in a panic, or with a version that
// it does not know.
func FuzzExecInfo(f *testing.F) {
	f.Add(`{"kind":"ExecCredential","apiVersion":"` + v1 + `","spec":{"cluster":{"server":"https://k8s.example.com"},"interactive":true}}`)
	f.Add(`{"apiVersion":1}`)
	f.Fuzz(func(t *testing.T, info string) {
		answer, _, err := parseExecInfo(info)
		if err == nil && answer.APIVersion != v1 && answer.APIVersion != v1+"beta1" {
			t.Errorf("%q", answer.APIVersion)
		}
	})
}
