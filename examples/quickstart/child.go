package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"sync"
	"time"

	"github.com/stayauth/stayauth/transport/provider"
)

// childVar holds a childConfig when the program is to be the second process.
const childVar = "STAYAUTH_QUICKSTART_CHILD"

// A childConfig is all that the second process is told. It gets no token and no
// key: those are in the storage.
type childConfig struct {
	Storage  storage
	Issuer   string
	ClientID string
	URL      string
	Interval time.Duration
}

// childMain is the second process. It calls the API until its input ends, so that
// it also ends when the first process dies, and writes a report of each call and
// event.
func childMain(conf string, in io.Reader, out io.Writer) error {
	signal.Ignore(os.Interrupt) // A terminal sends Ctrl-C to both; the first process decides.
	var cfg childConfig
	if err := json.Unmarshal([]byte(conf), &cfg); err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	go func() {
		io.Copy(io.Discard, in)
		cancel()
	}()
	p, err := provider.Discover(ctx, cfg.Issuer)
	if err != nil {
		return err
	}
	cache, _, err := openCache(ctx, cfg.Storage)
	if err != nil {
		return err
	}
	var mu sync.Mutex // calls and events are reported by different goroutines
	enc := json.NewEncoder(out)
	tell := func(r report) {
		mu.Lock()
		defer mu.Unlock()
		enc.Encode(r)
	}
	source, err := openLogin(cache, p.Endpoint(cfg.ClientID, ""), tell)
	if err != nil {
		return err
	}
	c, err := newClient(source, cfg.URL, tell)
	if err != nil {
		return err
	}
	return errors.Join(c.keepCalling(ctx, cfg.Interval), closeLogin(ctx, source))
}

// A child is the second process, seen from the first.
type child struct {
	process *os.Process
	stdin   io.Closer
	done    chan struct{} // closed when the process has ended and err is set
	err     error
}

// startChild starts this program once more, and tells what that one reports.
func startChild(cfg childConfig, tell func(report)) (*child, error) {
	exe, err := os.Executable()
	if err != nil {
		return nil, err
	}
	conf, err := json.Marshal(cfg)
	if err != nil {
		return nil, err
	}
	var stderr bytes.Buffer
	cmd := exec.Command(exe)
	cmd.Env = append(os.Environ(), childVar+"="+string(conf))
	cmd.Stderr = &stderr
	stdin, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	c := &child{process: cmd.Process, stdin: stdin, done: make(chan struct{})}
	go func() {
		defer close(c.done)
		dec := json.NewDecoder(stdout)
		for {
			var r report
			if err := dec.Decode(&r); err != nil {
				break
			}
			tell(r)
		}
		if err := cmd.Wait(); err != nil {
			c.err = fmt.Errorf("the second process failed: %w: %s", err, bytes.TrimSpace(stderr.Bytes()))
		}
	}()
	return c, nil
}

// stop asks the second process to end, and waits until it has.
func (c *child) stop() error {
	c.stdin.Close()
	defer time.AfterFunc(30*time.Second, func() { c.process.Kill() }).Stop()
	<-c.done
	return c.err
}
