package connecttest

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"strconv"
	"sync"

	"github.com/stayauth/stayauth/tokencache"
	"github.com/stayauth/stayauth/tokencache/pgstore"
	"github.com/stayauth/stayauth/transport"
	"github.com/stayauth/stayauth/transport/endpoint"
	"github.com/stayauth/stayauth/transport/login"
	"github.com/stayauth/stayauth/transport/provider"
)

// replicaEnv holds a config when the test binary is to be a replica.
const replicaEnv = "STAYAUTH_CONNECTTEST_REPLICA"

// replicaParam tells the provider which replica asks.
const replicaParam = "replica"

// appURL is the address of the application, at the balancer, which ends TLS.
const appURL = "https://app.test"

// A config is what all replicas have in common, and the number of this one.
type config struct {
	Replica             int
	DSN, Issuer         string
	ClientID, Secret    string
	StoreKey, CookieKey []byte
}

// open opens the store, and the pool of its logins.
func (c config) open() (*tokencache.Cache, *endpoint.Endpoint, *provider.Provider, *transport.Pool, error) {
	store, err := pgstore.Open(pgstore.Config{DSN: c.DSN})
	if err != nil {
		return nil, nil, nil, nil, err
	}
	cache, err := tokencache.New(store, tokencache.KeyBytes(c.StoreKey))
	if err != nil {
		return nil, nil, nil, nil, err
	}
	p, err := provider.Discover(context.Background(), c.Issuer)
	if err != nil {
		return nil, nil, nil, nil, err
	}
	e := p.Endpoint(c.ClientID, tokencache.Secret(c.Secret), "openid", "api")
	e.Params = url.Values{replicaParam: {strconv.Itoa(c.Replica)}}
	pool, err := transport.NewPool(transport.PoolConfig{Source: transport.SourceConfig{Cache: cache, Refresher: e}})
	return cache, e, p, pool, err
}

// userOf is the application's session, which is not what is tested here.
func userOf(r *http.Request) string {
	c, err := r.Cookie("user")
	if err != nil {
		return ""
	}
	return c.Value
}

// replicaMain serves until its input ends, as it does with the test.
func replicaMain(conf string) error {
	var c config
	if err := json.Unmarshal([]byte(conf), &c); err != nil {
		return err
	}
	cache, e, p, pool, err := c.open()
	if err != nil {
		return err
	}
	web, err := login.NewWeb(login.WebConfig{Provider: p, Endpoint: e, Pool: pool, Cache: cache,
		RedirectURL: appURL + "/callback", Keys: [][]byte{c.CookieKey},
		User: func(r *http.Request) (string, error) { return userOf(r), nil },
		OnEvent: func(_ context.Context, e transport.Event) {
			fmt.Fprintf(os.Stderr, "%+v\n", e)
		}})
	if err != nil {
		return err
	}
	mux := http.NewServeMux()
	mux.HandleFunc("POST /connect", web.Connect)
	mux.HandleFunc("/callback", web.Callback)
	mux.HandleFunc("GET /{$}", func(w http.ResponseWriter, r *http.Request) {
		accounts, err := web.Logins(r.Context(), userOf(r))
		switch {
		case err != nil:
			http.Error(w, err.Error(), http.StatusServiceUnavailable)
		case len(accounts) == 0:
			fmt.Fprint(w, "not connected")
		default:
			fmt.Fprint(w, connectedAs, accounts[0].Subject)
		}
	})
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	go http.Serve(listener, mux)
	fmt.Println(listener.Addr())
	io.Copy(io.Discard, os.Stdin)
	return nil
}

// connectedAs begins the page that a user sees who is connected.
const connectedAs = "connected as "

// A replica is one seen from the test.
type replica struct {
	number int
	addr   string
	cmd    *exec.Cmd
	stdin  io.Closer
	dying  sync.Once
}

// kill ends it as a crash does.
func (r *replica) kill() {
	r.dying.Do(func() {
		r.cmd.Process.Kill()
		r.cmd.Wait()
		r.stdin.Close()
	})
}

// startReplica starts one. What it says is added to log.
func startReplica(c config, log io.Writer) (*replica, error) {
	conf, err := json.Marshal(c)
	if err != nil {
		return nil, err
	}
	r := &replica{number: c.Replica, cmd: exec.Command(os.Args[0])}
	r.cmd.Env = append(os.Environ(), replicaEnv+"="+string(conf))
	r.cmd.Stderr = log
	stdout, err := r.cmd.StdoutPipe()
	if err == nil {
		r.stdin, err = r.cmd.StdinPipe()
	}
	if err == nil {
		err = r.cmd.Start()
	}
	if err != nil {
		return nil, err
	}
	if _, err := fmt.Fscanln(stdout, &r.addr); err != nil {
		r.kill()
		return nil, fmt.Errorf("a replica did not start: %w", err)
	}
	return r, nil
}

// A transcript is what all replicas have said.
type transcript struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (t *transcript) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.text.Write(p)
}

func (t *transcript) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.text.String()
}
