package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"os/signal"
	"strings"
	"time"

	"github.com/stayauth/stayauth/transport"
)

// replicaVar holds a config when the program is to be a replica.
const replicaVar = "STAYAUTH_SERVICE_REPLICA"

// replicaMain serves until its input ends, so that it ends with the first process.
func replicaMain(conf string) error {
	signal.Ignore(os.Interrupt) // A terminal sends Ctrl-C to all; the first process decides.
	var c config
	if err := json.Unmarshal([]byte(conf), &c); err != nil {
		return err
	}
	ctx := context.Background()
	logins, _, err := c.open()
	if err != nil {
		return err
	}
	rt, err := transport.New(transport.Config{Pool: logins, Origins: []string{c.API}})
	if err != nil {
		return err
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	server := &http.Server{Handler: service{&http.Client{Transport: rt, Timeout: 30 * time.Second}, c.API}}
	go server.Serve(listener)
	keeping, stop := context.WithCancel(ctx)
	go logins.KeepFresh(keeping)
	fmt.Println(listener.Addr())

	io.Copy(io.Discard, os.Stdin)
	// In this order nothing is lost: no more requests, no more refreshes, all is saved.
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	err = server.Shutdown(ctx)
	stop()
	return errors.Join(err, logins.Close(ctx))
}

// A service answers GET /{user} with what the API says to that user.
type service struct {
	client *http.Client
	api    string
}

func (s service) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	user := strings.TrimPrefix(r.URL.Path, "/")
	req, err := http.NewRequestWithContext(transport.WithAccount(r.Context(), user), http.MethodGet, s.api+"/api/me", nil)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	resp, err := s.client.Do(req)
	if err != nil { // It says what to do, and holds no secret.
		http.Error(w, err.Error(), http.StatusBadGateway)
		return
	}
	defer resp.Body.Close()
	w.WriteHeader(resp.StatusCode)
	io.Copy(w, resp.Body)
}

// A replica is a replica seen from the first process.
type replica struct {
	cmd   *exec.Cmd
	stdin io.Closer
	url   string

	number int
}

// startReplica starts one of the given program. Default: this one.
func startReplica(program string, c config) (*replica, error) {
	if program == "" {
		var err error
		if program, err = os.Executable(); err != nil {
			return nil, err
		}
	}
	conf, err := json.Marshal(c)
	if err != nil {
		return nil, err
	}
	r := &replica{cmd: exec.Command(program), number: c.Replica}
	r.cmd.Env = append(os.Environ(), replicaVar+"="+string(conf))
	r.cmd.Stderr = os.Stderr
	stdout, err := r.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if r.stdin, err = r.cmd.StdinPipe(); err != nil {
		return nil, err
	}
	if err := r.cmd.Start(); err != nil {
		return nil, err
	}
	var address string
	if _, err := fmt.Fscanln(stdout, &address); err != nil {
		r.kill()
		return nil, fmt.Errorf("a replica did not start: %w", err)
	}
	r.url = "http://" + address
	return r, nil
}

// stop lets the replica finish what it does.
func (r *replica) stop() error {
	r.stdin.Close()
	return r.cmd.Wait()
}

// kill ends it as a crash does.
func (r *replica) kill() {
	r.cmd.Process.Kill()
	r.cmd.Wait()
}
