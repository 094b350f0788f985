package bench

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"strings"
)

// serverEnv makes a process the API of Served, which must not use the processor time of its
// clients.
const serverEnv = "STAYAUTH_BENCH_SERVER"

// An api is where the API is.
type api struct {
	Plain, TLS  string
	Certificate []byte
}

// serve is the API, and the token endpoint of its clients, until nobody holds the other end of its
// input any more.
func serve() error {
	answer := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		switch authorization := r.Header.Get("Authorization"); {
		case r.URL.Path == "/token" && r.PostFormValue("grant_type") == "client_credentials":
			io.WriteString(w, `{"access_token":"`+accessToken+`","token_type":"Bearer","expires_in":3600}`)
		case authorization == prebuilt[0], authorization == bound[0] && strings.Count(r.Header.Get("DPoP"), ".") == 2:
			io.Copy(io.Discard, r.Body)
			io.WriteString(w, `{"id":1}`)
		default:
			w.WriteHeader(http.StatusUnauthorized)
		}
	})
	plain, secure := httptest.NewServer(answer), httptest.NewUnstartedServer(answer)
	defer plain.Close()
	secure.EnableHTTP2 = true
	secure.StartTLS()
	defer secure.Close()
	if err := json.NewEncoder(os.Stdout).Encode(api{plain.URL, secure.URL, secure.Certificate().Raw}); err != nil {
		return err
	}
	_, err := io.Copy(io.Discard, os.Stdin)
	return err
}

// startServer starts the API as another process, which ends with ctx or with this one.
func startServer(ctx context.Context) (a api, err error) {
	exe, err := os.Executable()
	if err != nil {
		return a, err
	}
	cmd := exec.CommandContext(ctx, exe)
	cmd.Env, cmd.Stderr = append(os.Environ(), serverEnv+"=1"), os.Stderr
	if _, err := cmd.StdinPipe(); err != nil {
		return a, err
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return a, err
	}
	if err := cmd.Start(); err != nil {
		return a, err
	}
	go cmd.Wait()
	line, err := bufio.NewReader(out).ReadBytes('\n')
	if err != nil {
		return a, fmt.Errorf("the API has not started: %w", err)
	}
	return a, json.Unmarshal(line, &a)
}
