package bench

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"time"

	"golang.org/x/oauth2"

	"github.com/stayauth/stayauth/tokencache"
	"github.com/stayauth/stayauth/transport"
	"github.com/stayauth/stayauth/transport/endpoint"
	"github.com/stayauth/stayauth/transport/oauthtest"
)

// childEnv holds the plan of a process of scenario (e).
const childEnv = "STAYAUTH_BENCH_CHILD"

// A plan is what each of the processes does: ask for a token at the same moments,
// at which the last one has expired.
type plan struct {
	Dir, TokenURL, ClientID, ClientSecret string
	First                                 time.Time
	Period                                time.Duration
	Rounds                                int
}

// A report is what a process reports of a round.
type report struct {
	Round    int
	Took     time.Duration // until it had a token
	Exchange time.Duration // of which for its own request to the provider, if it made one
	Err      string
}

// Child does the work of a child process, if this is one, and ends it. A program
// that uses Processes or Served calls it first.
func Child() {
	work := func() error { return child(os.Getenv(childEnv)) }
	if os.Getenv(serverEnv) != "" {
		work = serve
	} else if os.Getenv(childEnv) == "" {
		return
	}
	if err := work(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(0)
}

func child(text string) error {
	var p plan
	if err := json.Unmarshal([]byte(text), &p); err != nil {
		return err
	}
	var exchange time.Duration
	wire := new(http.Transport)
	cache, err := onDisk(p.Dir)
	if err != nil {
		return err
	}
	source, err := transport.NewSource(transport.SourceConfig{
		Cache: cache, Logger: quiet, Refresher: newEndpoint(p, roundTripper(func(r *http.Request) (*http.Response, error) {
			begun := time.Now()
			defer func() { exchange = time.Since(begun) }()
			return wire.RoundTrip(r)
		})),
	})
	if err != nil {
		return err
	}
	if _, err := source.Status(context.Background()); err != nil { // opens everything
		return err
	}
	for round := range p.Rounds {
		time.Sleep(time.Until(p.First.Add(time.Duration(round) * p.Period)))
		exchange = 0
		begun := time.Now()
		_, err := source.Token(context.Background())
		r := report{Round: round, Took: time.Since(begun), Exchange: exchange}
		if err != nil {
			r.Err = err.Error()
		}
		if err := json.NewEncoder(os.Stdout).Encode(r); err != nil {
			return err
		}
	}
	return source.Close(context.Background())
}

func newEndpoint(p plan, base http.RoundTripper) *endpoint.Endpoint {
	return &endpoint.Endpoint{TokenURL: p.TokenURL, ClientID: p.ClientID, ClientSecret: tokencache.Secret(p.ClientSecret),
		AuthStyle: oauth2.AuthStyleInHeader, Base: base}
}

// A Contention is the result for many processes that need the same new token at once.
type Contention struct {
	Processes, Rounds     int
	TokenRequests, Reuses int
	Exchange              time.Duration   // the median of the request itself
	Beyond                []time.Duration // how much longer each process waited, in each round
}

// Processes starts processes that share one login in sealed files, and asks each
// for a token whenever the last one has expired.
func Processes(ctx context.Context, processes, rounds int) (*Contention, error) {
	const life, period = time.Second, 1500 * time.Millisecond
	dir, err := os.MkdirTemp("", "stayauth-bench-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	srv := oauthtest.New(oauthtest.Config{Policy: oauthtest.StrictFamily, AccessTTL: life, Latency: 200 * time.Millisecond})
	if err := srv.Start(); err != nil {
		return nil, err
	}
	defer srv.Close()
	cache, err := onDisk(dir)
	if err != nil {
		return nil, err
	}
	if _, err := newSource(ctx, srv, cache, nil, srv.Login("ann")); err != nil {
		return nil, err
	}
	p := plan{Dir: dir, TokenURL: srv.TokenURL(), ClientID: srv.ClientID(), ClientSecret: srv.ClientSecret(),
		First: time.Now().Add(2*time.Second + time.Duration(processes)*20*time.Millisecond), Period: period, Rounds: rounds}
	text, err := json.Marshal(p)
	if err != nil {
		return nil, err
	}
	exe, err := os.Executable()
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, time.Until(p.First)+time.Duration(rounds)*period+30*time.Second)
	defer cancel()
	var children []*exec.Cmd
	var outputs []io.Reader
	for range processes {
		cmd := exec.CommandContext(ctx, exe)
		cmd.Env = append(os.Environ(), childEnv+"="+string(text))
		cmd.Stderr = os.Stderr
		out, err := cmd.StdoutPipe()
		if err == nil {
			err = cmd.Start()
		}
		if err != nil {
			cancel()
			for _, c := range children {
				c.Wait()
			}
			return nil, err
		}
		children, outputs = append(children, cmd), append(outputs, out)
	}
	byRound := make([][]report, rounds)
	var errs []error
	for i, cmd := range children {
		for lines := bufio.NewScanner(outputs[i]); lines.Scan(); {
			var r report
			if err := json.Unmarshal(lines.Bytes(), &r); err != nil {
				errs = append(errs, err)
			} else if r.Err != "" {
				errs = append(errs, errors.New(r.Err))
			} else {
				byRound[r.Round] = append(byRound[r.Round], r)
			}
		}
		errs = append(errs, cmd.Wait())
	}
	c := &Contention{Processes: processes, Rounds: rounds, TokenRequests: srv.Counts().TokenRequests, Reuses: srv.Counts().Reuses}
	var exchanges []time.Duration
	for _, reports := range byRound {
		var exchange time.Duration
		for _, r := range reports {
			exchange = max(exchange, r.Exchange)
		}
		exchanges = append(exchanges, exchange)
		for _, r := range reports {
			c.Beyond = append(c.Beyond, r.Took-exchange)
		}
	}
	c.Exchange, c.Beyond = Median(exchanges), sorted(c.Beyond)
	return c, errors.Join(errs...)
}

// WriteTable writes the result as Markdown.
func (c *Contention) WriteTable(w io.Writer) {
	fmt.Fprintln(w, "| processes | periods | token requests | reuses | exchange | waited beyond it: median | 90 % | longest |\n|---|---|---|---|---|---|---|---|")
	fmt.Fprintf(w, "| %d | %d | %d | %d | %.0f ms | %.1f ms | %.1f ms | %.0f ms |\n", c.Processes, c.Rounds, c.TokenRequests, c.Reuses,
		milliseconds(c.Exchange), milliseconds(quantile(c.Beyond, 0.5)), milliseconds(quantile(c.Beyond, 0.9)), milliseconds(quantile(c.Beyond, 1)))
}
