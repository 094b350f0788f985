package main

import (
	"cmp"
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
	"sync"
	"syscall"
	"time"

	"github.com/stayauth/stayauth/transport"
)

// replicaVar holds a config when the program is to be a replica.
const replicaVar = "STAYAUTH_SERVICE_REPLICA"

// replicaMain serves until it is told to end, or its input ends, as it does with the first
// process.
func replicaMain(conf string) error {
	signal.Ignore(os.Interrupt) // A terminal sends Ctrl-C to all; the first process decides.
	var c config
	if err := json.Unmarshal([]byte(conf), &c); err != nil {
		return err
	}
	serving, end := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	logins, cache, err := c.open()
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
	web, err := c.web(logins, cache)
	if err != nil {
		return err
	}
	server := &http.Server{Handler: routes(service{&http.Client{Transport: rt, Timeout: 30 * time.Second}, c.API}, web)}
	go server.Serve(listener)
	keeping, stop := context.WithCancel(context.Background())
	go logins.KeepFresh(keeping)
	fmt.Println(listener.Addr())

	go func() {
		io.Copy(io.Discard, os.Stdin)
		end()
	}()
	<-serving.Done()
	// In this order nothing is lost: no more requests, no more refreshes, all is saved.
	err = c.finish(server.Shutdown)
	stop()
	return errors.Join(err, c.finish(logins.Close))
}

func (c config) finish(f func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(context.Background(), cmp.Or(c.EndTime, 10*time.Second))
	defer cancel()
	return f(ctx)
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
	w.Header().Set(goodUntil, resp.Header.Get(goodUntil))
	w.WriteHeader(resp.StatusCode)
	io.Copy(w, resp.Body)
}

// A replica is a replica seen from the first process.
type replica struct {
	cmd   *exec.Cmd
	stdin io.Closer
	url   string

	number int

	mu   sync.Mutex
	good map[string]time.Time // by account: until when the token is good that it was last served with
}

// served takes note that a request was answered with a token that is good until then.
func (r *replica) served(account, until string) {
	at, _ := time.Parse(time.RFC3339Nano, until)
	r.mu.Lock()
	defer r.mu.Unlock()
	if at.After(r.good[account]) {
		r.good[account] = at
	}
}

func (r *replica) goodUntil(account string) time.Time {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.good[account]
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
	r := &replica{cmd: exec.Command(program), number: c.Replica, good: make(map[string]time.Time)}
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
